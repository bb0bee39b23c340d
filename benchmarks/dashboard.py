"""Draws the Grafana dashboard over a load run, by Prometheus' answers to its queries.

    python benchmarks/dashboard.py --out backend/monitoring/dashboard.png

Starts an anvil with a block each second, a service as `benchmarks/load.py` does, and Prometheus (Debian's package),
which scrapes it each second, with the alert rules. Clients book in waves. The third wave begins with an empty wallet.
Each panel is drawn where the dashboard has it, so Grafana is not needed.
"""

import argparse
import asyncio
import json
import re
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from app.bootstrap.accounts import open_accounts
from load import ROOT, SEATS, CountingProxy, Load, environment_of, insert_people, service
from PIL import Image
from sqlalchemy import create_engine
from stakesim_adapter.prometheus import Prometheus, prometheus
from stakesim_adapter.serve import PLATFORM_BALANCE, local_testnet
from web3 import HTTPProvider, Web3

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

MONITORING = ROOT / "backend" / "monitoring"
WAVES, CLIENTS, PAUSE_S = 4, 40, 25
EMPTY_WAVE, EMPTY_FOR_S = 2, 25
"""Number of the wave that begins with an empty wallet, and for how many seconds it stays so."""
COLORS = {"red": "#d44a3a", "green": "#299c46"}
COLUMNS, UNIT_IN = 24, 0.4
"""Columns of a dashboard's grid, and inches of the height of one row."""
UNITS = {"none": "", "s": "s", "reqps": "req/s", "percentunit": "", "currencyINR": "INR"}


async def run_load(folder: Path, draw: Callable[[Prometheus, float, float], None]) -> None:
    """Runs clients in waves while Prometheus scrapes the service, and then has the panels drawn."""
    async with AsyncExitStack() as stack:
        settings = stack.enter_context(local_testnet(1))
        proxy = CountingProxy(settings.blockchain_rpc_url)
        urls = f"{await stack.enter_async_context(proxy.run())},{settings.blockchain_rpc_url}"
        url, _ = await stack.enter_async_context(service(ROOT, environment_of(settings, urls)))
        target = url.removeprefix("http://")
        running = stack.enter_context(prometheus(folder, MONITORING / "prometheus.yml", target, every_s=1))
        began = time.time()
        database = create_engine(settings.database_url or "")
        stack.callback(database.dispose)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=300, trust_env=False))
        load = Load(client, database, settings.jwt_secret, time.monotonic() + 900)
        host, attendees, experience = insert_people(database, WAVES * CLIENTS)
        runs = await load.open_runs(-(-WAVES * CLIENTS // SEATS), host, experience)
        getter = asyncio.create_task(load.get(runs[0], host))
        node = Web3(HTTPProvider(settings.blockchain_rpc_url))
        for wave in range(WAVES):
            people = attendees[wave * CLIENTS : (wave + 1) * CLIENTS]
            address = open_accounts(settings).platform.address
            empty = asyncio.create_task(empty_wallet(node, address, wave == EMPTY_WAVE))
            await asyncio.sleep(1)
            await asyncio.gather(
                *(
                    load.book(runs[0], attendee, load.measured.waiting, **prefer(number))
                    for number, attendee in enumerate(people)
                )
            )
            await load.wait_for("bookEvent%", (wave + 1) * CLIENTS)
            await empty
            await asyncio.sleep(PAUSE_S)
        load.finished = True
        await getter
        draw(running, began, time.time())


def prefer(number: int) -> dict[str, str]:
    return {"Prefer": "respond-async"} if number % 2 else {}


async def empty_wallet(node: Web3, address: str, is_due: bool) -> None:
    """Takes the platform's ether away for a while, if it is due."""
    if is_due:
        await asyncio.to_thread(node.provider.make_request, "anvil_setBalance", [address, "0x0"])
        await asyncio.sleep(EMPTY_FOR_S)
        await asyncio.to_thread(node.provider.make_request, "anvil_setBalance", [address, hex(PLATFORM_BALANCE)])


# --------------------------------------------------------------------------------------------------------- drawing


def draw_dashboard(running: Prometheus, began: float, ended: float, out: Path) -> None:
    """Draws all panels into one picture."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = dashboard["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 11, "axes.titleweight": "bold", "legend.fontsize": 9})
    figure = plt.figure(figsize=(COLUMNS * 0.7, rows * UNIT_IN), facecolor="white")
    for panel in panels:
        at = panel["gridPos"]
        box = (at["x"] / COLUMNS, 1 - (at["y"] + at["h"]) / rows, at["w"] / COLUMNS, at["h"] / rows)
        if panel["type"] == "row":
            figure.text(box[0] + 0.004, box[1] + 0.2 / rows, panel["title"], fontsize=15, fontweight="bold")
        elif panel["type"] == "stat":
            draw_stat(figure.add_axes(inner(box, rows, legend=False)), panel, running, ended)
        else:
            draw_series(figure.add_axes(inner(box, rows, legend=True)), panel, running, began, ended)
    figure.savefig(out, dpi=75)
    plt.close(figure)
    Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)


def inner(box: tuple[float, float, float, float], rows: int, *, legend: bool) -> tuple[float, float, float, float]:
    """Returns the part of a panel's place that its axes take, without title, ticks and legend."""
    left, bottom, width, height = box
    above, below = 1.1 / rows, (1.9 if legend else 0.2) / rows
    side = 0.028 if legend else 0.004
    return (left + side, bottom + below, width - side - 0.006, height - above - below)


def series_of(panel: dict[str, Any], ask: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the data of each series of a panel."""
    for target in panel["targets"]:
        for result in ask(target["expr"])["result"]:
            labels = result["metric"]
            yield re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"]), result  # noqa: B023


def unit_of(panel: dict[str, Any]) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return UNITS[unit] if unit in UNITS else unit.removeprefix("suffix:").strip()


def draw_series(axes: Axes, panel: dict[str, Any], running: Prometheus, began: float, ended: float) -> None:
    """Draws a panel of time series: lines, or areas if it stacks them; limits dashed in red."""
    defaults = panel["fieldConfig"]["defaults"]
    limits = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
    moments = [began + second for second in range(int(ended - began))]

    def ask(query: str) -> Any:
        return running.get("query_range", query=query, start=began, end=ended, step=1)

    drawn: dict[str, list[float]] = {}
    for name, result in series_of(panel, ask):
        values = {round(moment - began): float(value) for moment, value in result["values"]}
        drawn[name] = [values.get(round(moment - began), float("nan")) for moment in moments]
    seconds = [moment - began for moment in moments]
    is_stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    if is_stacked and drawn:
        heights = [[0 if value != value else value for value in values] for values in drawn.values()]
        axes.stackplot(seconds, heights, labels=list(drawn), alpha=0.7)
    else:
        for name, values in drawn.items():
            style = {"color": COLORS["red"], "linestyle": "--"} if name in limits else {}
            axes.plot(seconds, values, label=name, linewidth=1.2, **style)
    unit = unit_of(panel)
    axes.set_title(f"{panel['title']} ({unit})" if unit else panel["title"], loc="left")
    axes.set_xlim(0, ended - began)
    axes.set_ylim(bottom=defaults.get("min"))
    if "max" in defaults:
        axes.set_ylim(top=1.05 * defaults["max"])
    axes.xaxis.set_major_formatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02d}")
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if drawn:
        columns = 2 if max(map(len, drawn)) > 24 else 4
        axes.legend(loc="upper left", bbox_to_anchor=(-0.07, -0.14), ncol=columns, frameon=False, handlelength=1.2)
    else:
        axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", transform=axes.transAxes, color="gray")
        axes.set_yticks([])


def draw_stat(axes: Axes, panel: dict[str, Any], running: Prometheus, ended: float) -> None:
    """Draws a panel of single values: in words and on a color where the dashboard maps them."""
    options, defaults = panel["options"], panel["fieldConfig"]["defaults"]
    mappings = {key: each for group in defaults.get("mappings", ()) for key, each in group["options"].items()}
    found = list(series_of(panel, lambda query: running.get("query", query=query, time=ended)))
    texts, color = [], "#f2f2f2"
    for name, result in found:
        number = float(result["value"][1])
        mapped = mappings.get(f"{number:g}")
        words = mapped["text"] if mapped else f"{number:,.{defaults.get('decimals', 0)}f} {unit_of(panel)}".strip()
        texts.append(name if options["textMode"] == "name" else words if len(found) == 1 else f"{name}: {words}")
        if options["colorMode"] == "background" and color != COLORS["red"]:
            steps = [step["color"] for step in defaults.get("thresholds", {}).get("steps", ())]
            color = COLORS[mapped["color"] if mapped else steps[number >= 1]]
    axes.set_title(panel["title"], loc="left")
    axes.set_facecolor(color)
    axes.set_xticks([])
    axes.set_yticks([])
    text = "\n".join(textwrap.shorten(each, 34) for each in texts) or "nothing to show"
    shade = "white" if options["colorMode"] == "background" else "black"
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=15, color=shade)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=MONITORING / "dashboard.png", help="where to write the picture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run_load(Path(folder), lambda *run: draw_dashboard(*run, arguments.out)))


if __name__ == "__main__":
    main()
