"""Names of the files and folders in `paths.results`; other modules import them from here.

multirun_results/
runs/NAME-ID/           a run: config.yaml, run.json, metrics.jsonl, ...
NAME-ID/                a sweep or a search: sweep.json or search.json, results.csv, a report
"""

RESULTS = "multirun_results"  # default of paths.results
RUNS = "runs"

# in the folder of a run
CONFIG_FILE = "config.yaml"
STATE_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
LOG_FILE = "train.log"
CURVES_FILE = "curves.png"
PREDICTIONS_FILE = "predictions.png"
CONFUSION_FILE = "confusion.png"
WEIGHTS_FILE = "model.safetensors"
MODEL_FILE = "model.json"
CHECKPOINTS = "checkpoints"

# in the folder of a sweep or a search
SWEEP_FILE = "sweep.json"
SEARCH_FILE = "search.json"
TABLE_FILE = "results.csv"
REPORT_PAGE = "report.html"
REPORT_TEXT = "report.md"
FIGURES = "figures"
