"""The largest numbers and the longest texts that a command accepts: more is a slip of the keyboard."""

LARGEST_INTEGER = 2**63 - 1  # of a setting; torch counts with 64 bits
MOST_PROCESSES = 1024  # processes, or threads of one
MOST_TIMES = 1_000_000  # whatever is repeated: epochs, steps, samples
MOST_PIXELS = 2**12  # height or width of an image
LONGEST_TEXT = 4096  # characters of a setting, a name or a path, as of a path in Linux
LONGEST_PART = 255  # bytes of a name in a path
