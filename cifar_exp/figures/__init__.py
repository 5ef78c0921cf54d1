"""Pictures. Only this room knows matplotlib; it takes numbers and knows nothing of runs."""
