"""Ordinary least squares with Dask-ML: its generalised linear model of the normal family, by Newton's method."""

import contract

# One step of Newton's method solves least squares; a second and third remove what rounding left. It applies no penalty;
# of the other solvers only gradient descent does not either, which does not come to the last digits.
ESTIMATOR = {"solver": "newton", "tol": 1e-10, "max_iter": 5}


def job(matrix, settings, phase):
    with phase("start"):
        import dask
        import dask.dataframe
        import dask_ml
        from dask.distributed import Client, LocalCluster, wait
        from dask_ml.linear_model import LinearRegression

        address = settings.get("dask_scheduler")
        cluster = None
        if not address:
            cluster = LocalCluster(
                n_workers=settings["workers"], threads_per_worker=1, dashboard_address=None, memory_limit=None
            )
        client = Client(address or cluster)
        client.wait_for_workers(settings["workers"])
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        threads = sum(worker["nthreads"] for worker in workers)
    with phase("load"):
        names = settings["features"]
        frame = dask.dataframe.read_parquet(matrix, split_row_groups=True)

        def arrays(part):
            part = part.persist()
            x = part[names].to_dask_array(lengths=True).persist()
            y = part[settings["target"]].to_dask_array(lengths=list(x.chunks[0])).persist()
            wait([x, y])
            return x, y

        rows = settings["train_rows"]
        x, y = arrays(frame[frame.row < rows])
        held_out, _ = arrays(frame[frame.row >= rows])
    with phase("fit"):
        model = LinearRegression(**ESTIMATOR).fit(x, y)
    with phase("predict"):
        predictions = model.predict(held_out).compute()
    client.close()
    if cluster is not None:
        cluster.close()
    return {
        "versions": {"dask-ml": dask_ml.__version__, "dask": dask.__version__},
        "settings": ESTIMATOR,
        "solver": "Newton's method on the standardised columns",
        "workers": threads,
        "coefficients": model.coef_.tolist(),
        "intercept": float(model.intercept_),
        "predictions": predictions.tolist(),
    }


if __name__ == "__main__":
    contract.main(job)
