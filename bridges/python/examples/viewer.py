"""A viewer of what `cargo run --example camera` shows, as many as you like: `viewer.py [segment]`.

It says once a second where the ball is, and how many pictures it has seen. The pictures are looked at where the camera
has drawn them.
"""

import asyncio
import sys
import time

import numpy as np

import atomic_matrix as am

SHAPE = (480, 640, 3)


def attached(name: str) -> am.Segment:
    """The camera's segment, once it is there."""
    for _ in range(200):
        try:
            return am.Segment.attach(name)
        except am.SegmentNotFound:
            time.sleep(0.05)
    sys.exit(f"no camera has come: start one with: cargo run --example camera {name}")


async def view(name: str) -> None:
    with attached(name) as segment:
        seen, told = 0, time.monotonic()
        async for picture in segment.topic("pictures", cells=8):
            image = picture.array(shape=SHAPE)  # no copy; read-only
            seen += 1
            if seen == 1 or time.monotonic() - told >= 1:
                rows, columns = np.nonzero(image[:, :, 0] > 200)
                print(f"{seen} pictures, the ball is at {rows.mean():.0f}, {columns.mean():.0f}", flush=True)
                told = time.monotonic()
        print(f"the camera has ended after {seen} pictures")


if __name__ == "__main__":
    asyncio.run(view(sys.argv[1] if len(sys.argv) > 1 else "video"))
