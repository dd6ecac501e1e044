"""The commands of the suite: python -m bench."""

COMMANDS = {
    "bench.run": "train methods on data sets, and keep a record of every run",
    "bench.plan": "what would run: steps, hours, disk and memory, from step times measured here and now",
    "bench.report": "tables and figures from the records",
    "bench.data": "data sets: which are here, where to get them, whether they are whole, what they look like",
    "bench.doctor": "whether this set-up is complete, and what will be skipped",
    "bench.speed": "how long a training step of every method takes, beside other packages and beside a floor",
    "bench.relations": "whether NORMAL's task positions reflect task relations",
    "bench.toy": "every weighting on the published two-task problem in the plane",
}


def main() -> int:
    """Lists the commands."""
    print("The benchmark suite for multi-task learning. Commands:\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m {name:<15} {purpose}")
    print("\nEach tells its options with --help; README.md shows them at work.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
