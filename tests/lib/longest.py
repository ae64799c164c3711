"""The test files that take longest, in the order in which they begin."""

LONGEST = (
    "test_whole_path",
    "test_resuming",
    "test_training",
    "test_train_runs",
    "test_commands",
    "test_prepare",
    "test_lm_runs",
    "test_compilation",
    "test_analyze",
    "test_benchmarks",
    "test_adam",
)
