"""Draws who paid whom in a story, step by step, as SVG: a column for each party, an arrow for each payment."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stakesim.campaign.stories import CONTRACT, Story, StoryStep, Transfer

_COLUMN, _ROW, _LEFT, _TOP = 150, 34, 40, 34
"""Pixels of a column and a row, and of the margins for numbers of steps and for names."""
_PARTIES, _ARROWS = 7, 40
"""Columns and arrows at most; the drawing of a longer story ends with its failing step."""


def money_flow(story: Story) -> Markup:
    """The drawing; empty if nothing was paid.

    Its colours are those of the page's style sheet: classes `in`, `out` and `deferred`.
    """
    drawn = story.transfers[-_ARROWS:]
    if not drawn:
        return Markup("")
    columns = _columns([transfer for _, transfer in drawn])
    width, height = _LEFT + _COLUMN * len(columns), _TOP + _ROW * len(drawn) + 10
    parts = [_column(name, number, height) for number, name in enumerate(columns)]
    previous = 0
    for row, (step, transfer) in enumerate(drawn):
        parts.append(_arrow(step, transfer, columns, _TOP + _ROW * row + 24, show_number=step.number != previous))
        previous = step.number
    label = f"Who paid whom: {len(drawn)} payments between {', '.join(columns)}"
    head = Markup(
        '<svg class="flow" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="context-stroke"/></marker></defs>'
    ).format(w=width, h=height, label=label)
    return head + Markup("").join(parts) + Markup("</svg>")


def _columns(transfers: Sequence[Transfer]) -> list[str]:
    """Parties in the order in which they appear, the contract in the middle; of too many, the last are one column."""
    names = dict.fromkeys(
        name for transfer in transfers for name in (transfer.payer, transfer.payee) if name != CONTRACT
    )
    parties = list(names)
    if len(parties) > _PARTIES:
        parties = [*parties[: _PARTIES - 1], _OTHERS]
    return [*parties[: (len(parties) + 1) // 2], CONTRACT, *parties[(len(parties) + 1) // 2 :]]


_OTHERS = "others"


def _column(name: str, number: int, height: int) -> Markup:
    x = _LEFT + _COLUMN * number + _COLUMN // 2
    style = "contract" if name == CONTRACT else "party"
    shown = name if len(name) <= 18 else f"{name[:17]}…"
    return Markup(
        '<text class="{style}" x="{x}" y="18" text-anchor="middle"><title>{name}</title>{shown}</text>'
        '<line class="life" x1="{x}" y1="26" x2="{x}" y2="{height}"/>'
    ).format(style=style, x=x, name=name, shown=shown, height=height)


def _arrow(step: StoryStep, transfer: Transfer, columns: Sequence[str], y: int, *, show_number: bool) -> Markup:
    payer, payee = (columns.index(name if name in columns else _OTHERS) for name in (transfer.payer, transfer.payee))
    x1, x2 = (_LEFT + _COLUMN * column + _COLUMN // 2 for column in (payer, payee))
    style = "deferred" if transfer.deferred else "in" if transfer.payee == CONTRACT else "out"
    number = Markup('<text class="number" x="4" y="{y}">{n}.</text>').format(y=y + 4, n=step.number)
    note = " (refused, to be withdrawn)" if transfer.deferred else ""
    # next to the contract, so that long arrows of several parties do not hide each other's amounts
    contract, party = (x2, x1) if transfer.payee == CONTRACT else (x1, x2)
    at = contract + (_COLUMN // 2 if party > contract else -_COLUMN // 2)
    return (number if show_number else Markup("")) + Markup(
        '<line class="{style}" x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" marker-end="url(#head)"><title>{title}</title>'
        '</line><text class="amount" x="{at}" y="{above}" text-anchor="middle">{told}</text>'
    ).format(
        style=style,
        x1=x1,
        x2=x2,
        y=y,
        at=at,
        above=y - 5,
        told=transfer.told,
        title=f"{transfer.payer} to {transfer.payee}: {transfer.wei:,} wei{note}",
    )
