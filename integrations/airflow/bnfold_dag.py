"""A DAG with one task (Airflow 3): fold a folder of models. Copy the task into yours; docs/fleets.md says more.

The worker needs the command: pip install PATH, of a checkout of bnfold or its wheel. The task fails with what bnfold
says in its log, and a retry goes on with what is not done yet. Where nothing folds, and the options have
--require-change, it is skipped.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

COMMAND = (
    'set -f; bnfold fold "$MODELS" --output-dir "$FOLDED" --report "$REPORTS.json" --report "$REPORTS.html" $OPTIONS'
)
# No parameter is pasted into the command; set -f leaves the patterns of options to bnfold
ENVIRONMENT = {name.upper(): f"{{{{ params.{name} }}}}" for name in ("models", "folded", "reports", "options")}
NOTHING_TO_FOLD = 4  # the exit code

with DAG(
    "bnfold",
    schedule=None,
    params={"models": "models", "folded": "folded", "reports": "report", "options": "--max-left 0"},
):
    BashOperator(
        task_id="fold",
        bash_command=COMMAND,
        env=ENVIRONMENT,
        append_env=True,
        skip_on_exit_code=NOTHING_TO_FOLD,
    )
