"""The service against its own OpenAPI document: requests are generated from it."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from served import ARTIFACT, serving

TOKEN = "a-token-of-this-contract"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def document():
    """Return the document of a running service."""
    with serving(ARTIFACT, "--log-level", "warning", token=TOKEN) as served:
        yield schemathesis.openapi.from_url(f"{served.url}/openapi.json", headers=HEADERS)


def test_the_service_conforms_to_its_openapi_document(document):
    operations = [one.ok() for one in document.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:
        # No schema can express that a tensor's shape has to match its data.
        @settings(max_examples=25, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def check(case):
            case.call_and_validate(headers=HEADERS, excluded_checks=[positive_data_acceptance])

        check()
