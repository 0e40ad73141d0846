"""Ordinary least squares with Spark MLlib: the normal equations, with no penalty."""

import contract

ESTIMATOR = {"solver": "normal", "regParam": 0.0, "elasticNetParam": 0.0, "standardization": False}


def session_of(settings):
    from pyspark.sql import SparkSession

    master = settings.get("spark_master") or f"local[{settings['workers']}]"
    # Half of what the job may take is the heap's; the rest is for the JVM itself, Python, and what lies beside the heap.
    heap = (settings.get("memory") or 4 << 30) // 2 >> 20
    builder = (
        SparkSession.builder.master(master)
        .appName("bief compare")
        .config("spark.driver.memory", f"{heap}m")
        .config("spark.local.dir", settings["folder"])
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
    )
    if master.startswith("local"):
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    else:
        builder = builder.config("spark.executor.memory", f"{heap // settings['workers']}m")
        builder = builder.config("spark.executor.cores", "1").config("spark.cores.max", str(settings["workers"]))
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def cores_of(context):
    """Those that there are, however many were asked for."""
    if context.master.startswith("local"):
        return context.defaultParallelism
    # Executors of one core each; the driver is told among them.
    return len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1


def job(matrix, settings, phase):
    with phase("start"):
        import pyspark
        from pyspark.ml.feature import VectorAssembler
        from pyspark.ml.regression import LinearRegression

        session = session_of(settings)
    with phase("load"):
        frame = session.read.parquet(matrix)
        vectors = VectorAssembler(inputCols=settings["features"], outputCol="features").transform(frame)
        vectors = vectors.select("row", "features", settings["target"])
        rows = settings["train_rows"]
        train = vectors.filter(vectors.row < rows).cache()
        held_out = vectors.filter(vectors.row >= rows).cache()
        train.count(), held_out.count()
    with phase("fit"):
        model = LinearRegression(labelCol=settings["target"], **ESTIMATOR).fit(train)
    with phase("predict"):
        rows = model.transform(held_out).orderBy("row").select("prediction").collect()
    result = {
        "versions": {"pyspark": pyspark.__version__},
        "settings": ESTIMATOR,
        "solver": "normal equations and Cholesky",
        "workers": cores_of(session.sparkContext),
        "coefficients": model.coefficients.toArray().tolist(),
        "intercept": model.intercept,
        "predictions": [row.prediction for row in rows],
    }
    session.stop()
    return result


if __name__ == "__main__":
    contract.main(job)
