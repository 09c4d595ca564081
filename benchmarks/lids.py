"""What bounds the reading of AU 5: how far lids move, and how far people's lids differ at rest.

    python benchmarks/lids.py [data/facsynth/test.parquet]

Of the data's own landmarks (exact, 128 pixels), not of any estimator. The eye's aspect is its height over its width;
r is its correlation with AU 5 where AU 7 and AU 45, which move lids too, are below 0.3.
"""

import sys

import numpy as np
import pyarrow.parquet as pq

from eggan.action_units import COLUMNS, NUMBERS

RIGHT, LEFT = 36, 42


def main(path: str = "data/facsynth/test.parquet") -> None:
    table = pq.read_table(path, columns=["identity", "session", "emotion", "landmarks", *COLUMNS])
    landmarks = np.array(table["landmarks"].to_pylist()).reshape(-1, 68, 2)
    au = dict(zip(NUMBERS, (table[column].to_numpy() for column in COLUMNS), strict=True))
    shots = [
        f"{who} {shot}" for who, shot in zip(table["identity"].to_pylist(), table["session"].to_pylist(), strict=True)
    ]
    neutral = np.array(table["emotion"].to_pylist()) == "neutral"
    height, width = (np.mean([side(landmarks, eye) for eye in (RIGHT, LEFT)], axis=0) for side in (heights, widths))
    aspect = height / width
    at_rest = {shot: aspect[k] for k, shot in enumerate(shots) if neutral[k]}
    opened = aspect - [at_rest[shot] for shot in shots]
    lids_free = (au[7] < 0.3) & (au[45] < 0.3)
    strong = lids_free & (au[5] > 3.5)
    rest = np.array(list(at_rest.values()))
    print(f"at rest: aspect {rest.mean():.3f}, standard deviation over people {rest.std():.3f}")
    print(f"         that is {rest.std() * width.mean():.2f} pixels of an eye {height[neutral].mean():.1f} high")
    print(f"AU 5 above 3.5: aspect + {opened[strong].mean():.3f}, {(opened * width)[strong].mean():.2f} pixels")
    print(f"r with AU 5 of the aspect {np.corrcoef(aspect[lids_free], au[5][lids_free])[0, 1]:.2f}, of the aspect")
    print(f"  less the same person's at rest {np.corrcoef(opened[lids_free], au[5][lids_free])[0, 1]:.2f}")


def heights(landmarks: np.ndarray, eye: int) -> np.ndarray:
    upper, lower = landmarks[:, eye + 1 : eye + 3], landmarks[:, [eye + 5, eye + 4]]
    return np.linalg.norm(upper - lower, axis=2).mean(axis=1)


def widths(landmarks: np.ndarray, eye: int) -> np.ndarray:
    return np.linalg.norm(landmarks[:, eye] - landmarks[:, eye + 3], axis=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
