"""Make the W&B dashboard that compares adaptation runs: quality, diversity, losses, sample grids, one colour a method.

    python scripts/wandb_dashboard.py --entity TEAM            # needs an account and the network
    python scripts/wandb_dashboard.py --entity TEAM --dry-run  # prints what it would make

Needs wandb-workspaces (pip install 'tenshot[dashboard]').
"""

import argparse
import json
import sys

try:
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces
except ModuleNotFoundError:
    sys.exit("wandb_dashboard.py: error: wandb-workspaces is not installed: pip install 'tenshot[dashboard]'")

STEP = "trainer/global_step"
LITE0_PRECISION = ["eval/precision_efficientnet_lite0", "eval/recall_efficientnet_lite0"]
SECTIONS: dict[str, list[tuple[str, list[str]]]] = {
    # section -> (title of a panel, what it shows: the values of whichever networks measured)
    "Quality": [
        ("Fréchet distance", ["eval/fid", "eval/fd_efficientnet_lite0"]),
        ("Kernel distance", ["eval/kid", "eval/kd_efficientnet_lite0"]),
        ("Precision and recall", ["eval/precision", "eval/recall", *LITE0_PRECISION]),
    ],
    "Diversity": [
        ("Among samples of one shot", ["eval/intra_lpips", "eval/intra_dist_efficientnet_lite0"]),
        ("To the nearest shot", ["eval/nearest_lpips", "eval/nearest_dist_efficientnet_lite0"]),
        ("Among all samples", ["eval/pairwise_lpips", "eval/pairwise_dist_efficientnet_lite0"]),
    ],
    "Losses": [("Training", ["train/loss"]), ("Validation", ["val/loss"])],
}
IMAGES = ["samples", "strips"]


def dashboard(entity: str, project: str) -> workspaces.Workspace:
    """The saved view; nothing is sent."""
    sections = [
        workspaces.Section(
            name=name,
            is_open=True,
            panels=[panels.LinePlot(title=title, x=STEP, y=values) for title, values in lines],
        )
        for name, lines in SECTIONS.items()
    ]
    sections.append(
        workspaces.Section(
            name="Images", is_open=True, panels=[panels.MediaBrowser(media_keys=[key]) for key in IMAGES]
        )
    )
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="Adaptation",
        sections=sections,
        runset_settings=workspaces.RunsetSettings(groupby=[workspaces.Config("model.class_path")]),
    )


def main() -> None:
    """Make it, or say what it would be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--entity", required=True, help="account or team on W&B")
    parser.add_argument("--project", default="tenshot")
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON, without network or account")
    asked = parser.parse_args()
    view = dashboard(asked.entity, asked.project)
    if asked.dry_run:
        print(json.dumps(view._to_model().model_dump(mode="json", by_alias=True, exclude_none=True), indent=1))
        return
    view.save()
    print(view.url)


if __name__ == "__main__":
    main()
