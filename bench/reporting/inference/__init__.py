"""Statistics of paired runs: pure functions over arrays, with numpy and scipy only."""
