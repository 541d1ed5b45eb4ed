"""What was measured of a job's pipeline, and what each schedule would make of it, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distgrad.coordinator.training.predict import Measured, Prediction


def measured_text(measured: Measured) -> str:
    """The times that predictions are made from."""
    costs, workers = measured.costs, measured.shape.workers
    lines = [f"  {workers[k]:8} calls of stage {k + 1}: {_ms(seconds)}" for k, seconds in enumerate(costs.forward)]
    for run, gradient, weight in zip(measured.shape.runs, costs.gradient, costs.weight, strict=True):
        stages = f"stage {run[0] + 1}" if len(run) == 1 else f"stages {run[0] + 1} to {run[-1] + 1}"
        lines.append(
            f"  {workers[run[0]]:8} gradients of {stages}: {_ms(gradient)} that others wait for, {_ms(weight)} of "
            "parameters"
        )
    lines.append(f"  from one process to the next: {_ms(costs.latency)}; update: {_ms(costs.update)}")
    return "a microbatch:\n" + "\n".join(lines)


def predictions_text(found: Sequence[Prediction], achieved: Mapping[str, Measured]) -> str:
    """A line for each schedule. `achieved`: what was measured with it, by name."""
    lines = ["schedule        step         idle    microbatches alive" + ("    achieved" if achieved else "")]
    for one in found:
        idle = sum(one.idle.values()) / len(one.idle)
        line = f"{one.schedule.name:12} {_ms(one.timeline.seconds)}    {idle:6.1%}    {one.timeline.alive:18}"
        if one.schedule.name in achieved:
            real = achieved[one.schedule.name]
            mean = sum(real.idle.values()) / len(real.idle)
            difference = one.timeline.seconds / real.seconds - 1
            line += f"    {_ms(real.seconds)}, idle {mean:.1%}: predicted {difference:+.1%}"
        lines.append(line)
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:7.1f} ms"
