"""``nlnet doctor``: what a report of a problem needs: versions, devices, limits, a decode and an all-reduce probe."""

from collections.abc import Sequence

from nlnet.cli.arguments import Parser
from nlnet.doctor import as_json, examine


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="nlnet doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    findings = []
    for finding in examine():
        findings.append(finding)
        if not options.json:
            print(f"{'!' if finding.mend else ' '} {finding.what:<28} {finding.found}")
            if finding.mend:
                print(f"  {'':<28} → {finding.mend}")
    if options.json:
        print(as_json(findings))
    return 2 if any(finding.fatal for finding in findings) else 0
