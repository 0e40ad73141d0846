"""What all jobs share: arguments, phases told as JSON lines, the result, exit codes. README.md has the contract."""

import json
import os
import sys
import time
import traceback
from contextlib import contextmanager

DONE, FAILED, USAGE, ABSENT, MEMORY = 0, 1, 2, 3, 4


def tell(**message):
    """One line of progress. Nothing else may be printed on the standard output."""
    print(json.dumps(message), flush=True)


class Phases:
    def __init__(self):
        self.seconds = {}

    @contextmanager
    def __call__(self, name):
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began
        tell(phase=name, seconds=self.seconds[name])


def main(job):
    """Runs `job(matrix, settings, phase)`, which answers what goes into the result, and ends the process."""
    sys.exit(run(job))


def run(job):
    try:
        matrix, settings = sys.argv[1:]
        with open(settings, encoding="utf-8") as file:
            settings = json.load(file)
        result_path = settings["result"]
        for name in ("features", "target", "train_rows", "workers"):
            settings[name]
        if not os.path.isfile(matrix):
            raise ValueError(f"{matrix} is not there")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"usage: JOB MATRIX.parquet SETTINGS.json: {error!r}", file=sys.stderr)
        return USAGE
    phase = Phases()
    try:
        result = job(matrix, settings, phase)
    except ImportError as error:
        print(f"the framework is not installed: {error}", file=sys.stderr)
        return ABSENT
    except MemoryError:
        traceback.print_exc()
        return MEMORY
    except Exception:
        traceback.print_exc()
        return FAILED
    partial = result_path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({**result, "seconds": phase.seconds}, file, allow_nan=False)
    os.replace(partial, result_path)
    return DONE
