"""The service against its own OpenAPI document, by requests that are made of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

ARTIFACT = Path(__file__).parents[2] / "fixtures" / "artifacts" / "format-2"
TOKEN = "a-token-of-this-contract"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def document():
    """Return what a running service says of itself."""
    command = [sys.executable, "-m", "querytier", "serve", "--artifact", str(ARTIFACT)]
    with subprocess.Popen(
        [*command, "--port", "0", "--log-level", "warning"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "QUERYTIER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"},
    ) as process:
        url = re.search(r"http://[\w.:]+", process.stdout.readline()).group()
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", headers=HEADERS)
        process.terminate()
        process.wait(20)


def test_the_service_does_what_its_document_says(document):
    operations = [one.ok() for one in document.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:
        # That a tensor's shape and its data belong together, no schema can say.
        @settings(max_examples=25, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def check(case):
            case.call_and_validate(headers=HEADERS, excluded_checks=[positive_data_acceptance])

        check()
