"""Events and scores of the past, in memory and in one SQLite file. Its thread may access the disk; nothing else in it does."""
