"""The module is there for those who ask for it, and says what it needs."""

import subprocess
import sys


def ran(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_without_the_packages_importing_it_names_the_extra() -> None:
    code = (
        "import sys\nsys.modules['opentelemetry'] = None\nimport doubleweave.integrations\n"
        "try:\n    import doubleweave.integrations.opentelemetry\n"
        "except ImportError as error:\n    print(error, error.name)\n"
    )
    message = 'doubleweave.integrations.opentelemetry needs OpenTelemetry: pip install "doubleweave[otel]"'
    assert ran(code) == f"{message} opentelemetry.context\n"


def test_the_root_does_not_import_it_and_has_the_module_of_integrations() -> None:
    code = (
        "import sys, doubleweave\nfrom doubleweave import *\nprint(doubleweave.integrations.__name__)\n"
        "print('opentelemetry' in sys.modules, 'doubleweave.integrations.opentelemetry' in sys.modules)\n"
    )
    assert ran(code) == "doubleweave.integrations\nFalse False\n"
