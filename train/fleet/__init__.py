"""Train and score many machines on many computers with Dask; may use all rooms that fit and evaluate one machine."""
