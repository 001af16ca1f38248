"""Why a segment is abnormal: bands, impulses, one sentence. Pure, and it knows nothing of scores."""
