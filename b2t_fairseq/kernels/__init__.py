"""The same numbers in less time: attention, matrix products, compilation, optimizer, criterion."""
