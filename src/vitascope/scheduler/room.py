"""Which models fit beside which: pure arithmetic on what workers measured, for one device at a time.

A model that is loaded has taken its weights already, so that what the device has free lacks them; what it
will take to work is still to come. One that is being loaded has taken nothing yet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

GIGA, MEGA = 1e9, 1e6
MAX_NAMED = 2  # models that a refusal names together


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a model will take of a device's memory, and what was free when that was measured."""

    device: str
    weights_bytes: int
    working_bytes: int
    free_bytes: int

    @property
    def needs_bytes(self) -> int:
        """Weights, and what one clip at native settings works in."""
        return self.weights_bytes + self.working_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A model that has room on the device: loaded or being loaded, idle or not, and when it last worked."""

    uid: str
    footprint: Footprint
    loaded: bool
    idle: bool
    used_at: float

    @property
    def outstanding_bytes(self) -> int:
        """What it has not taken yet, as long as it is idle."""
        return self.footprint.working_bytes if self.loaded else self.footprint.needs_bytes


def missing_bytes(asking: Footprint, tenants: Collection[Tenant], budget_bytes: int | None) -> int:
    """Return how many bytes are missing for a model beside those; none if that is zero or less.

    A model that is alone is never refused for what is free: the operator may know better than an estimate.
    His own budget holds for it, too.
    """
    free = [budget_bytes - _needs(tenants)] if budget_bytes is not None else []
    if tenants:
        free.append(asking.free_bytes - sum(t.outstanding_bytes for t in tenants))
    return asking.needs_bytes - min(free) if free else 0


def to_unload(missing: int, tenants: Collection[Tenant]) -> list[str] | None:
    """Choose idle models, used longest ago first, until enough is free; None if that is never enough.

    Those without which it would still be enough are spared.
    """
    chosen: list[Tenant] = []
    for tenant in sorted((t for t in tenants if t.loaded and t.idle), key=lambda t: t.used_at):
        if _needs(chosen) < missing:
            chosen.append(tenant)
    if _needs(chosen) < missing:
        return None
    for tenant in reversed(chosen[:]):
        rest = [t for t in chosen if t is not tenant]
        chosen = rest if _needs(rest) >= missing else chosen
    return [tenant.uid for tenant in chosen]


def _needs(tenants: Collection[Tenant]) -> int:
    return sum(tenant.footprint.needs_bytes for tenant in tenants)


def refusal(
    uid: str, asking: Footprint, tenants: Sequence[Tenant], missing: int, *, unload_idle: bool
) -> str:
    """Say that a model does not fit, by how much, and what would do."""
    needs, free = asking.needs_bytes, max(asking.needs_bytes - missing, 0)
    said = f"{uid} needs about {_shown(needs)} on {asking.device} and {_shown(free)} are left for it"
    enough = _enough(missing, tenants)
    if enough is None:
        return f"{said}; it would not fit without the other models either."
    if unload_idle:
        return f"{said}; {enough} would have to go, and not all of these are idle. Try again later."
    return f"{said}; terminate {enough}, or start the server with --unload-idle."


def _enough(missing: int, tenants: Sequence[Tenant]) -> str | None:
    """Name the fewest models whose end would make the room, the smallest ones; None if all would not."""
    for count in range(1, min(MAX_NAMED, len(tenants)) + 1):
        sizes = [(_needs(some), [t.uid for t in some]) for some in combinations(tenants, count)]
        enough = [(size, uids) for size, uids in sizes if size >= missing]
        if enough:
            return " and ".join(min(enough)[1])
    if not tenants or _needs(tenants) < missing:
        return None
    return f"some of {', '.join(t.uid for t in tenants)}"


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / GIGA:.1f} GB" if num_bytes >= GIGA else f"{num_bytes / MEGA:.0f} MB"
