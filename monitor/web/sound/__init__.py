"""Sound of the page: clips and pictures of events, and live sound, which a child process reads and resamples."""
