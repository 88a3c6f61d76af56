"""The metrics of GLUE (Wang et al. 2019): thin fronts to scikit-learn and scipy.

As in the paper's table, MRPC and QQP report the mean of accuracy and F1, STS-B the mean of Pearson's and
Spearman's correlation, CoLA Matthews' correlation, the others accuracy. All values are fractions of one.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def classification(predictions: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """accuracy, f1 (of class 1), acc_and_f1 and matthews of predicted classes [N]."""
    accuracy = float(accuracy_score(labels, predictions))
    binary = set(labels) | set(predictions) <= {0, 1}
    f1 = float(f1_score(labels, predictions, zero_division=0.0)) if binary else float("nan")
    constant = len(set(predictions)) == 1 or len(set(labels)) == 1
    matthews = 0.0 if constant else float(matthews_corrcoef(labels, predictions))
    return {"accuracy": accuracy, "f1": f1, "acc_and_f1": (accuracy + f1) / 2, "matthews": matthews}


def regression(predictions: Sequence[float], labels: Sequence[float]) -> dict[str, float]:
    """pearson, spearman and their mean corr of predicted scores [N]; 0 where a side is constant."""
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return {"pearson": 0.0, "spearman": 0.0, "corr": 0.0}
    pearson = float(pearsonr(predictions, labels).statistic)
    spearman = float(spearmanr(predictions, labels).statistic)
    return {"pearson": pearson, "spearman": spearman, "corr": (pearson + spearman) / 2}
