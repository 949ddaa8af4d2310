"""The report in its three formats: its content, its size, and that it fetches nothing."""

import copy
import json
import re

import pytest

from querytier.eval.certificates.wording import promise_sentence
from querytier.eval.report.pages import render_markdown, render_model_card, render_report
from querytier.eval.report.table import compared_with_baselines, headline

PLOTS = dict.fromkeys(("gain", "reliability", "scores"), '<svg role="img" aria-label="a plot"/>')
TEXT = "Is 7 < 8 & why? <script>alert(1)</script> " * 7


@pytest.fixture
def metrics(run_dir):
    """Return the metrics of a real run, which a test may change."""
    return json.loads((run_dir / "metrics.json").read_text())


def rendered(metrics):
    return render_report(metrics, PLOTS, "runs/first/model")


def crowded(metrics):
    """Return metrics with as much content as a report can have."""
    near = [{"query": TEXT[:300], "similarity": 0.9, "needs_frontier": 1.0}] * 3
    mistake = {
        "query": TEXT[:300],
        "p_frontier": 0.1,
        "decision_score": 0.1,
        "needs_frontier": 1.0,
        "cheap_score": None,
        "frontier_score": 0.5,
        "neighbours": near,
    }
    slice_ = {
        "name": "domain: a rather long name of a domain, " * 3,
        "rows": 100,
        "groups": 90,
        "frontier_rate": 0.3,
        "needs_frontier": 0.2,
        "missed": 0.1,
        "difference": 0.05,
        "low": 0.01,
        "high": 0.09,
        "p_value": 0.001,
        "adjusted_p_value": 0.01,
        "worse": True,
    }
    metrics["mistakes"] = {"sent_cheap": [mistake] * 100, "sent_frontier": [mistake] * 100}
    metrics["slices"] = {
        "level": 0.05,
        "results": [slice_] * 500,
        "untested": {f"domain: {n}": "3 rows, at least 30 are needed" for n in range(500)},
    }
    metrics["certificate"] = {
        "status": "granted",
        "reason": "a test",
        "risk": "needs_frontier",
        "alpha": 0.1,
        "delta": 0.1,
        "n": 900,
        "k": 13.0,
        "sent_cheap": 187,
        "bound": 0.0998,
        "coverage": 0.2,
        "coverage_low": 0.16,
        "coverage_high": 0.25,
        "date": "2031-01-01",
        "expires": "2031-06-30",
        "attempts": 3,
        "slices": [{"name": "law", "status": "refused", "reason": "0 rows"}],
    }
    metrics["champion"] = {"model_version": "0123456789ab", "threshold": 0.3}
    tier = {"per_million_in": 1, "per_million_out": 2, "output_tokens": 300}
    metrics["prices"] = {
        "currency": "USD",
        "estimated_rows": 9,
        "cheap": tier,
        "frontier": tier,
        "decision": 0.0,
        "lost_cache_discount": 0.0,
        "source": "invented",
    }
    metrics["test_uses"] = 4
    return metrics


def test_three_readers_find_their_sections_in_this_order(metrics):
    page = rendered(metrics)
    places = [page.index(f'id="{reader}"') for reader in ("manager", "engineer", "sceptic")]
    assert places == sorted(places)
    assert places[0] < page.index(PLOTS["gain"]) < places[1]
    assert page.rindex(PLOTS["reliability"]) > places[2]


def test_texts_are_escaped_and_the_page_stays_below_two_megabytes(metrics):
    page = rendered(crowded(metrics))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(page.encode()) < 2_000_000
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page)


def test_every_detail_of_a_certificate_is_on_the_page(metrics):
    page = rendered(crowded(metrics))
    for known in ("k 13 failed", "bound 0.0998", "16.0% to 25.0%", "expires 2031-06-30"):
        assert known in page
    assert "attempt 3 on these certification rows" in page
    assert "up to 0.3" in page
    assert "slice law: refused" in page
    assert "with 70% confidence (the best of 3 attempts), at most 10%" in page


def test_any_part_of_a_certificate_may_be_missing(metrics):
    whole = crowded(metrics)["certificate"]
    for missing in whole.keys() - {"status", "reason"}:
        known = {name: value for name, value in whole.items() if name != missing}
        for certificate in (known, {**whole, missing: None}):
            assert "granted</b>: a test" in rendered({**metrics, "certificate": certificate})
    refused = {**dict.fromkeys(whole), "status": "refused", "reason": "no threshold qualifies"}
    assert "refused</b>: no threshold qualifies" in rendered({**metrics, "certificate": refused})


@pytest.mark.parametrize(
    ("alpha", "delta", "said"),
    [
        (0.125, 0.005, "99.5% confidence, at most 12.5% of"),
        (0.004, 0.001, "99.9% confidence, at most 0.4% of"),
    ],
)
def test_no_promise_is_rounded_up(alpha, delta, said):
    found = {"status": "granted", "reason": "", "risk": "needs_frontier"}
    assert said in promise_sentence({**found, "alpha": alpha, "delta": delta})


def test_a_promise_about_quality_does_not_read_like_one_about_failures(metrics):
    metrics = crowded(metrics)
    metrics["certificate"] |= {"risk": "quality_lost", "k": 3.25}
    page = rendered(metrics)
    assert "lose at most 0.1 of their score" in page
    assert "needed the frontier model." not in page.split('id="engineer"')[0]
    assert "k 3.25 of quality lost" in page


def test_a_higher_cost_is_not_called_a_saving(metrics):
    metrics["rows"][0] |= {"cost_saved": -0.05}
    metrics["rows"][0]["intervals"] |= {"cost_saved": {"low": -0.1, "high": -0.01}}
    assert "It costs 5.0% (1.0% to 10.0%) more than always-frontier" in headline(metrics)


def test_the_manager_section_states_a_refusal(metrics):
    assert "Nothing is promised about the answers of the cheap model: not requested" in rendered(
        metrics
    )


def test_worse_slices_are_named_and_small_ones_are_listed(metrics):
    page = rendered(crowded(metrics))
    assert "Worse than a coin" in page
    assert "470 more are in metrics.json" in page
    assert "domain: 0 (3 rows)" in page
    assert "and 480 more" in page


def test_what_is_missing_is_left_out_without_a_trace(metrics):
    for name in ("promise", "gate", "prices", "champion", "test_uses"):
        metrics[name] = None
    metrics |= {"candidates": [], "mistakes": {"sent_cheap": [], "sent_frontier": []}}
    metrics["slices"] = {"level": 0.05, "results": [], "untested": {}}
    page = rendered(metrics)
    assert "Worst mistakes" not in page
    assert "All candidates" not in page
    assert "No slice has enough rows to be tested" in page


def test_the_headline_starts_with_a_frontier_model_that_is_worse(metrics):
    reason = "the 95% interval of the mean frontier score minus cheap score is not above 0"
    nothing = {"value": None, "low": None, "high": None, "reason": reason}
    metrics["rows"][0] = {**metrics["rows"][0], "apgr": nothing}
    for name, value in (("always_cheap", 0.6), ("as_routed", 0.55), ("always_frontier", 0.5)):
        metrics["mean_scores"][name] = {"value": value, "low": value, "high": value}
    said = headline(metrics)
    assert said.startswith("On these rows the frontier model is worse: the mean score is 0.600")
    assert "always-frontier's quality" not in said


def test_baselines_that_are_as_good_are_named(metrics):
    said = copy.deepcopy(metrics)
    for row in said["rows"]:
        if row["name"] in {"tfidf_lr", "knn", "domain_prior"}:
            low = -0.01 if row["name"] == "knn" else 0.01
            row["behind_classifier"]["apgr"] = {"value": 0.02, "low": low, "high": 0.05}
    assert "not shown to be better than knn:" in compared_with_baselines(said)
    assert "not shown to be better than knn:" in rendered(said)


def test_the_short_report_fits_a_pull_request(metrics):
    text = render_markdown(crowded(metrics))
    assert len(text.splitlines()) < 40
    assert "| **classifier** |" in text
    assert "**certificate** granted: a test" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert TEXT[:20] not in text, "no query of a log leaves with a pull request"


def test_the_short_report_names_the_worst_slice_or_that_none_was_tested(metrics):
    few = {"level": 0.05, "results": [], "untested": {"domain: law": "3 rows"}}
    assert "- **slices** none tested, 1 too small" in render_markdown({**metrics, "slices": few})
    slices = crowded(metrics)["slices"]
    worst = {**slices["results"][0], "name": "domain: a\n\nb", "worse": False}
    said = render_markdown({**metrics, "slices": {**slices, "results": [worst] * 50}})
    assert (
        "none of 50 shown to be worse than a coin at the same rate; the worst is domain: a b, "
        in said
    )


def test_the_model_card_is_read_by_model_hubs(metrics):
    import yaml

    card = render_model_card(metrics)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "text-classification"
    for title in ("Intended use", "Data and labels", "Results", "Limits"):
        assert f"## {title}" in body


def test_a_run_leaves_all_four_files(run_dir):
    for name in ("metrics.json", "report.html", "report.md", "model_card.md"):
        assert (run_dir / name).stat().st_size > 500


@pytest.fixture(scope="module")
def pages(run_dir, tmp_path_factory):
    """Return a report as a run writes it, and one with as much content as possible."""
    metrics = crowded(json.loads((run_dir / "metrics.json").read_text()))
    plot = '<svg role="img" aria-label="a plot" width="900" height="400" viewBox="0 0 900 400"/>'
    full = tmp_path_factory.mktemp("report") / "full.html"
    plots = dict.fromkeys(("gain", "reliability", "scores"), plot)
    full.write_text(render_report(metrics, plots, "a/" + "long/" * 40 + "model"), "utf-8")
    return [run_dir / "report.html", full]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_fetched_and_nothing_overflows(browser, pages, width, scheme):
    for path in pages:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        requests, errors = [], []
        page.on("request", lambda request, seen=requests: seen.append(request.url))
        page.on("console", lambda message, seen=errors: seen.append(message.text))
        page.goto(path.as_uri())
        assert requests == [path.as_uri()]
        assert errors == []
        wide, seen = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= seen
        page.close()


def test_dark_paper_has_light_ink(browser, pages):
    def brightness(scheme, what):
        page = browser.new_page(color_scheme=scheme)
        page.goto(pages[0].as_uri())
        colour = page.evaluate(f"getComputedStyle(document.body).{what}")
        page.close()
        return sum(int(part) for part in colour[4:-1].split(",")[:3])

    assert brightness("light", "color") < brightness("light", "backgroundColor") - 400
    assert brightness("dark", "color") > brightness("dark", "backgroundColor") + 400


def test_text_in_pictures_is_readable(browser, pages):
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 360, "height": 900}, color_scheme=scheme)
        page.goto(pages[0].as_uri())
        ink, soft, size = page.evaluate(
            "(() => { const text = document.querySelector('svg text');"
            " return [getComputedStyle(text).fill,"
            " getComputedStyle(document.querySelector('figcaption')).color,"
            " text.getBoundingClientRect().height] })()"
        )
        page.close()
        assert ink == soft
        assert size >= 8


def test_printed_tables_are_not_cut_off(browser, pages):
    page = browser.new_page(viewport={"width": 720, "height": 1000})
    page.emulate_media(media="print")
    page.goto(pages[0].as_uri())
    cut = page.evaluate(
        "[...document.querySelectorAll('.scroll')]"
        ".filter(e => e.scrollWidth > e.clientWidth).length"
    )
    page.close()
    assert cut == 0
