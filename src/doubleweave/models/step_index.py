"""Step indices of records that belong to a whole flow, not to one of its steps."""

from doubleweave.models.flows import AnyFlow

FLOW_INPUT_STEP_INDEX = -1


def flow_output_step_index(flow: AnyFlow) -> int:
    """Return the index of the record for a flow's output: one past its last step."""
    return len(flow.steps)
