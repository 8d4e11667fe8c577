"""The panel of the DICOM node in a real browser: received studies, deliveries, and sending again."""

import re
import time
from collections.abc import Callable

import pytest
from browsing import PHONE, WIDE, Visit
from serving import Served, write_stored

from groundglass.node.config import DicomConfig
from groundglass.phantom import Phantom
from groundglass.store.queue import new_job
from groundglass.store.tables import DONE, FAILED, TAKEN, Arrival, Job

Open = Callable[..., Visit]
PROBLEM = "pacs: cannot be reached; check its address, AE titles and permissions"


@pytest.fixture
def study(
    served: Served, marked: Phantom, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A study that the node received, whose results could not be sent to one of two destinations."""
    peers = [{"name": name, "url": "http://localhost/dicom-web"} for name in ("pacs", "archive")]
    dicom = DicomConfig.model_validate({"peers": peers, "destinations": [{"to": "pacs"}, {"to": "archive"}]})
    monkeypatch.setattr(served.server, "config", served.server.config.model_copy(update={"dicom": dicom}))
    files = write_stored(marked, tmp_path_factory.mktemp("panel") / "ct", "rows")
    study = str(served.answered(served.send(*files))["id"])
    failed, sent = new_job(study, "pacs"), new_job(study, "archive")
    failed.state, failed.problem, failed.attempts, sent.state = FAILED, PROBLEM, 7, DONE
    arrival = Arrival(
        id=study, uid=study, caller="SCANNER", state=TAKEN, first=time.time(), last=time.time(), answered=True
    )
    arrival.instances = {"series": ["1", "2", "3"]}
    arrival.left_out, arrival.study_id = {"is not a CT image": 1}, study
    with served.server.database.write() as session:
        session.add_all([arrival, failed, sent])
    return study


def jobs(served: Served, study: str) -> dict[str | None, str]:
    with served.server.database.read() as session:
        found = session.query(Job).filter(Job.study_id == study, Job.destination.is_not(None))
        return {job.destination: job.state for job in found}


@pytest.mark.parametrize("window", [WIDE, PHONE])
def test_the_panel_lists_what_came_and_sends_again(
    visit: Open, served: Served, study: str, window: dict[str, object]
) -> None:
    one = visit(**window)
    one.sign_in()
    panel = one.page.get_by_role("region", name="DICOM node").first
    panel.get_by_text(re.compile("DICOM node GROUNDGLASS: .* 1 failed")).click()
    row = panel.get_by_role("row").filter(has_text="7 attempts")
    row.get_by_text(PROBLEM).wait_for()
    for text in ("SCANNER", "1 left out: is not a CT image", "archive: sent", "pacs: failed"):
        assert row.get_by_text(text).count() == 1
    panel.get_by_label("Fetch the study with StudyInstanceUID").fill("1.2.3")
    panel.get_by_label("from").select_option("archive")
    panel.get_by_role("button", name="Fetch").click()
    panel.get_by_role("alert").get_by_text("there is no such peer").wait_for()  # this server has no node
    one.accessible()
    row.get_by_role("button", name=re.compile("to pacs again$")).click()
    row = panel.get_by_role("row").filter(has_text="pacs: waiting")
    row.wait_for()
    assert jobs(served, study) == {"pacs": "queued", "archive": "done"}
    row.get_by_role("link").click()
    one.page.wait_for_url(re.compile(f"#/study/{study}"))
    served.client.delete(f"/api/v1/studies/{study}", headers=served.bearer)


def test_without_a_node_there_is_no_panel(visit: Open) -> None:
    one = visit(**WIDE)
    one.sign_in()
    one.page.get_by_role("heading", name="Studies").wait_for()
    one.page.wait_for_timeout(500)
    assert (
        one.page.get_by_text("DICOM node").count() == 0 or not one.page.get_by_text("DICOM node").is_visible()
    )
