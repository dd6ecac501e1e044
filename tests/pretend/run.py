"""python -m bench.run on a machine with the pretend device: PYTHONPATH=tests python -m pretend.run --method ew ...

Worker processes import this module before their work, as multiprocessing does with the main module of a command. So
they have the device, too.
"""

from bench.run import main
from pretend.device import enable

enable()

if __name__ == "__main__":
    raise SystemExit(main())
