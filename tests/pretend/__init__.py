"""A pretend accelerator: the device "pretend", for tests of what runs on an accelerator, on machines without one.

Its tensors hold tensors on the CPU and run every operation there, so all numbers equal the CPU's. Other than a CPU, it
refuses to mix devices, and counts what an accelerator would have to copy and when the host would have to wait for it:

    from pretend.counts import counting
    from pretend.device import DEVICE, available

    with available(), counting() as counts:
        x = torch.ones(3).to(DEVICE)  # a copy from unpinned memory: the host waits
        if x.sum() > 2:  # reads a value: the host waits
            ...
    assert counts().waits == 2
    print(counts())  # each wait and copy, with the line that caused it

From the root, `PYTHONPATH=tests python -m pretend.steps --method mgda --data digits` prints the waits and copies of a
training step, each with the lines that caused it, and `PYTHONPATH=tests python -m pretend.run` is `python -m bench.run`
on a machine with this device.

Importing `pretend.device` registers the device for the whole process. Until it is made available, torch says that there
is no accelerator, and nothing else changes.
"""
