"""Checks the templates in deploy/: `cargo xtask test` runs this as its step `deploy`.

    python deploy/check.py FOLDER        installs its tools below FOLDER, once, and runs

Needs Python 3.9 or later, npm, and their registries the first time. Every check prints what it looked at; none
is skipped silently. No check here can say whether AWS accepts it: see docs/explain/untested.md.
"""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

# The repository is read, not written to.
sys.dont_write_bytecode = True

HERE = pathlib.Path(__file__).resolve().parent
HUB, HUB_MODULE = HERE / "hub/rootwatch-hub.yaml", HERE / "hub/terraform"
ALARM, ALARM_MODULE = HERE / "alarm/rootwatch-alarm.yaml", HERE / "alarm/terraform"
MODULES = (HUB_MODULE, ALARM_MODULE)
SCP_BYTES_MAX = 5_120
# What CloudFormation takes without a bucket.
TEMPLATE_BYTES_MAX = 51_200
# What Security Hub's CloudWatch.1 and scanners look for, letter for letter.
CIS_FILTER = (
    '{$.userIdentity.type="Root" && $.userIdentity.invokedBy NOT EXISTS && $.eventType !="AwsServiceEvent"}'
)

HUB_SAMPLES = [
    {"code_bucket": "code", "code_key": "package.zip"},
    {
        "name": "rootwatch-two",
        "organization_id": "o-exampleorgid",
        "code_bucket": "code",
        "code_key": "package.zip",
        "architecture": "x86_64",
        "memory_size": 1024,
        "maximum_concurrency": 9,
        "history_maximum_concurrency": 40,
        "consumer": "none",
        "config": "aws-ssm:/rootwatch/config",
        "secret_arns": ["arn:aws:ssm:eu-west-1:111122223333:parameter/rootwatch/config"],
        "log_buckets": ["trail-a", "trail-b"],
        "extra_policy_arns": ["arn:aws:iam::111122223333:policy/mail"],
        "archive_days": 0,
        "log_retention_days": 90,
        "log_key_arn": "arn:aws:kms:eu-west-1:111122223333:key/a",
        "log_level": "debug",
        "age_of_oldest_message_secs": 60,
    },
    {"code_bucket": "code", "code_key": "package.zip", "history_maximum_concurrency": 0},
]
ALARM_SAMPLES = [
    {"log_group_name": "trail"},
    {"log_group_name": "trail", "email": "root-use@example.com"},
    {"log_group_name": "trail", "topic_arn": "arn:aws:sns:us-east-1:111122223333:rootwatch-alerts"},
]


def install(folder):
    """The Python of the tools and the folder of the provider's types."""
    set_up = HERE.parent / "fixtures/aws/set_up.py"
    asked = [sys.executable, set_up, folder, HERE / "requirements.txt"]
    python = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    npm, wanted = folder / "npm", (HERE / "package.json").read_text()
    library, installed = npm / "node_modules/@cdktf/provider-aws/lib", npm / "installed.json"
    if not (library.exists() and installed.exists() and installed.read_text() == wanted):
        program = shutil.which("npm")
        if not program:
            sys.exit("error: npm is not there; deploy/check.py needs it for the types of Terraform's provider")
        npm.mkdir(parents=True, exist_ok=True)
        (npm / "package.json").write_text(wanted)
        # Types alone: no scripts, and not the packages that the types' code would run with.
        flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--legacy-peer-deps"]
        subprocess.run([program, "install", "--silent", *flags], cwd=npm, check=True)
        installed.write_text(wanted)
    return python, library


def program(name):
    return str(pathlib.Path(sys.executable).parent / name)


def cfn_lint():
    templates = sorted(HERE.glob("*/*.yaml"))
    run([program("cfn-lint"), *templates])
    for path in templates:
        if path.stat().st_size > TEMPLATE_BYTES_MAX:
            raise Failed(f"{path.name} has more than {TEMPLATE_BYTES_MAX} bytes: it could not be deployed without a bucket")
    return f"{len(templates)} templates are clean, and small enough to be deployed from a file"


def checkov():
    asked = [program("checkov"), "-d", HERE, "--framework", "cloudformation", "terraform"]
    # Nothing is asked of a network, and nothing sent to one.
    output = run([*asked, "--compact", "--skip-download", "-o", "json"])
    passed = skipped = 0
    for report in json.loads(output):
        passed += report["summary"]["passed"]
        skipped += report["summary"]["skipped"]
        for one in report["results"]["skipped_checks"]:
            if len(one["check_result"].get("suppress_comment") or "") < 20:
                raise Failed(f"{one['check_id']} is skipped without a reason in {one['file_path']}")
    if passed < 100:
        raise Failed(f"only {passed} checks ran")
    return f"{passed} checks pass, {skipped} are skipped where they stand, each with its reason"


def formatting():
    terraform = shutil.which("terraform")
    if terraform:
        run([terraform, "fmt", "-check", "-diff", "-recursive", HERE])
        return "terraform fmt -check"
    problems = []
    for path in sorted(HERE.glob("**/*.tf")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            indent = len(line) - len(line.lstrip(" "))
            if "\t" in line or line != line.rstrip() or indent % 2:
                problems.append(f"{path.name}:{number}: {line!r}")
    if problems:
        raise Failed("\n".join(problems))
    return "terraform is not there: indentation and spaces only, beside the reading of every block below"


def types(library):
    from checks import types as provider

    counts = []
    for module in MODULES:
        problems, count = provider.check(module, library)
        if problems:
            raise Failed("\n".join(problems))
        counts.append(count)
    # It finds what is wrong.
    members = {"AConfig": {"name": (False, "string")}}
    found = []
    provider.block(members, "AConfig", {"nam": ["x"]}, "a.b", found)
    if len(found) != 2:
        raise Failed(f"a wrong and a missing argument are not found: {found}")
    return f"{sum(counts)} arguments are known to the provider, and none that it requires is missing"


def facts(template, module, sample):
    from checks import cfn, equal, hcl

    made = equal.of_template(cfn.Template(template.read_text(), sample))
    return made, equal.of_module(hcl.Module(module, sample))


def equality():
    from checks import cfn, equal, hcl

    count = 0
    for template, module, samples in ((HUB, HUB_MODULE, HUB_SAMPLES), (ALARM, ALARM_MODULE, ALARM_SAMPLES)):
        for sample in samples:
            left, right = facts(template, module, sample)
            problems = equal.differences(left, right)
            if problems:
                raise Failed("\n".join(problems))
            count += sum(len(one) for one in left.values())
        # Parameters, their defaults, and outputs.
        text = cfn.load(template.read_text())
        blocks = hcl.read(module)
        given = {name for one in blocks["variable"] for name in one}
        asked = {cfn.snake(name) for name in text["Parameters"]}
        if given - {"filename"} != asked:
            raise Failed(f"{template.name}: parameters differ: {sorted(given ^ asked)}")
        defaults = hcl.Module(module, {}).scope["var"]
        for name, body in text["Parameters"].items():
            default = defaults[cfn.snake(name)]
            stated = body.get("Default")
            if stated is not None and (stated or None) != (default or None):
                raise Failed(f"{template.name}: {name} is {stated!r} by default, and {default!r} in the module")
        outputs = {name for one in blocks["output"] for name in one}
        if outputs != {cfn.snake(name) for name in text["Outputs"]}:
            raise Failed(f"{template.name}: outputs differ: {sorted(outputs)}")
    drifts(equal)
    return f"{count} properties of templates and modules are equal"


def drifts(equal):
    """A comparison that finds nothing has to be able to find something."""
    left, right = facts(HUB, HUB_MODULE, HUB_SAMPLES[1])
    changes = [
        ("aws_cloudwatch_metric_alarm errors_alarm", "period", 61),
        ("aws_lambda_function function", "environment", {}),
        ("policy of role function_role", "statements", []),
        ("aws_cloudwatch_event_rule root_use_rule", "event_pattern", {"source": ["aws.iam"]}),
        ("aws_sqs_queue queue", "redrive_policy", None),
        ("aws_sqs_queue history", "redrive_policy", None),
    ]
    for key, word, value in changes:
        changed = copy.deepcopy(right)
        changed[key][word] = value
        if not equal.differences(left, changed):
            raise Failed(f"a change of {word} of {key} is not found")
    changed = copy.deepcopy(right)
    del changed["policy of SQS queue"]
    if len(equal.differences(left, changed)) != 1:
        raise Failed("a missing policy is not found")


def alarm_text():
    from checks import cfn

    template = cfn.load(ALARM.read_text())
    found = template["Resources"]["Filter"]["Properties"]["FilterPattern"]
    if found != CIS_FILTER:
        raise Failed(f"the filter is {found!r}")
    return "the filter is what Security Hub looks for, letter for letter"


def policies():
    from checks import cfn

    for path in sorted((HERE / "scp").glob("*.json")):
        text = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
        if len(text) > SCP_BYTES_MAX:
            raise Failed(f"{path.name} has {len(text)} characters of {SCP_BYTES_MAX}")
    deny = json.loads((HERE / "scp/deny-root.json").read_text())["Statement"][0]["Condition"]
    if deny["Null"] != {"aws:AssumedRoot": "true"}:
        raise Failed("deny-root.json does not spare privileged sessions")
    # Every named thing that a spoke makes is protected.
    text = (HERE / "scp/protect-forwarding.json").read_text()
    kinds = {
        "AWS::CloudWatch::Alarm": ":alarm:",
        "AWS::Events::Rule": ":rule/",
        "AWS::IAM::Role": ":role/",
        "AWS::SQS::Queue": ":sqs:",
    }
    spoke = cfn.load((HERE / "spoke/rootwatch-spoke.yaml").read_text())
    count = 0
    for name, body in spoke["Resources"].items():
        if body["Type"] in kinds:
            count += 1
            own = body["Properties"]
            given = [own.get(key) for key in ("Name", "RoleName", "QueueName", "AlarmName") if key in own][0]
            given = given["Fn::Sub"] if isinstance(given, dict) else given
            if not given.startswith("rootwatch-") or kinds[body["Type"]] not in text:
                raise Failed(f"protect-forwarding.json does not hold {name}, {given}")
    return f"both fit, root sessions are spared, and {count} things of a spoke are protected"


class Failed(Exception):
    """A check that does not hold."""


def run(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"{pathlib.Path(command[0]).name}:\n{done.stdout}")
    return done.stdout


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    if len(sys.argv) == 2:
        python, library = install(folder)
        os.execv(python, [python, str(pathlib.Path(__file__).resolve()), str(folder), str(library)])
    library = pathlib.Path(sys.argv[2])
    sys.path.insert(0, str(HERE))
    checks = [
        ("format", formatting),
        ("provider", lambda: types(library)),
        ("equality", equality),
        ("alarm", alarm_text),
        ("policies", policies),
        ("cfn-lint", cfn_lint),
        ("checkov", checkov),
    ]
    failed = 0
    for name, check in checks:
        try:
            print(f"deploy: {name}: {check()}", flush=True)
        except Failed as problem:
            failed += 1
            print(f"deploy: {name} FAILED\n{problem}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
