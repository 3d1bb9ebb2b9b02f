"""Print what the ImageNet experiment found: kernels side by side against WordNet; needs no torch.

slt-notebook experiment imagenet-report tutorials/imagenet_kernel.nc
"""

from collections.abc import Sequence

from slt_notebook.experiments import argument_parser
from slt_notebook.toys.imagenet_report import open_result, report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("imagenet-report", __doc__)
    parser.add_argument("result", metavar="RESULT.nc")
    report(open_result(parser.parse_args(arguments).result))
