"""Make predicted gains mean what they say.

Averages of trees and stacked models are shrunk or stretched, yet in order. Two straight lines,
fitted to out-of-fold predictions, put that right: one maps the predicted difference of the two
probabilities to the observed one, the other their sum. Rising lines change no order, so the
routing curve stays as it is, and difference and probabilities stay consistent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Calibration", "fit_calibration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The two lines; the default changes nothing.

    Attributes:
        gain_slope: Of the line for P(cloud right) - P(edge right).
        gain_intercept: Its value at 0.
        sum_slope: Of the line for P(cloud right) + P(edge right).
        sum_intercept: Its value at 0.
    """

    gain_slope: float = 1.0
    gain_intercept: float = 0.0
    sum_slope: float = 1.0
    sum_intercept: float = 0.0

    def apply(self, pairs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return P(edge right), P(cloud right) and the gain dq of raw pairs, shape (n, 2).

        Example:
            >>> import numpy as np
            >>> _, _, gain = Calibration(gain_slope=0.5).apply(np.array([[0.2, 0.8]]))
            >>> round(float(gain[0]), 6)
            0.3
        """
        import numpy as np

        gain = self.gain_intercept + self.gain_slope * (pairs[:, 1] - pairs[:, 0])
        total = self.sum_intercept + self.sum_slope * (pairs[:, 1] + pairs[:, 0])
        gain = np.clip(gain, -1, 1)
        # Between these two bounds both probabilities are in 0 to 1, and differ by the gain.
        total = np.clip(total, np.abs(gain), 2 - np.abs(gain))
        return (total - gain) / 2, (total + gain) / 2, gain


def fit_calibration(pairs: Floats, edge: Floats, cloud: Floats) -> Calibration:
    """Fit the lines to out-of-fold predictions.

    Args:
        pairs: Shape (n, 2), raw predictions for edge and cloud of rows not trained on.
        edge: Shape (n,), scores of the edge's answers.
        cloud: Shape (n,), those of the cloud's.
    """
    gain_slope, gain_intercept = _line(pairs[:, 1] - pairs[:, 0], cloud - edge)
    sum_slope, sum_intercept = _line(pairs[:, 1] + pairs[:, 0], cloud + edge)
    return Calibration(
        gain_slope=gain_slope,
        gain_intercept=gain_intercept,
        sum_slope=sum_slope,
        sum_intercept=sum_intercept,
    )


def _line(predicted: Floats, observed: Floats) -> tuple[float, float]:
    centred = predicted - predicted.mean()
    variance = float((centred**2).mean())
    slope = float((centred * observed).mean()) / variance if variance > 1e-12 else 0.0
    # A falling or flat line would be noise, and would turn or level the order of questions.
    slope = max(slope, 0.05)
    return slope, float(observed.mean() - slope * predicted.mean())
