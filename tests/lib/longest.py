"""The test files that take longest, in the order in which they begin; scripts/test.sh distributes whole files."""

LONGEST = (
    "test_whole_path",
    "test_train_runs",
    "test_training",
    "test_prepare",
    "test_commands",
    "test_lm",
)
