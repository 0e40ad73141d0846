"""Ordinary least squares with scikit-learn."""

import contract


def job(matrix, settings, phase):
    with phase("start"):
        import numpy
        import pyarrow.parquet
        import sklearn
        from sklearn.linear_model import LinearRegression
        from threadpoolctl import threadpool_info, threadpool_limits

        threadpool_limits(settings["workers"])
        # A library may have been built for fewer.
        threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    with phase("load"):
        table = pyarrow.parquet.read_table(matrix)
        x = numpy.column_stack([table[name].to_numpy() for name in settings["features"]])
        y = table[settings["target"]].to_numpy()
        del table
        rows = settings["train_rows"]
    with phase("fit"):
        model = LinearRegression().fit(x[:rows], y[:rows])
    with phase("predict"):
        predictions = model.predict(x[rows:])
    return {
        "versions": {"scikit-learn": sklearn.__version__, "numpy": numpy.__version__},
        "settings": {},
        "solver": "LAPACK gelsd (SVD) of the centred columns",
        "workers": max(threads, default=1),
        "coefficients": model.coef_.tolist(),
        "intercept": float(model.intercept_),
        "predictions": predictions.tolist(),
    }


if __name__ == "__main__":
    contract.main(job)
