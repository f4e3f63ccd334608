"""The typed entry of a user's own task in a sweep file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from arc_train.tasks.catalog import Augment, Location, Metric, Resize, Task

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class TaskSpec(BaseModel):
    """A task of the user's own; a plain string in the sweep file is one of the catalogue.

    folder: has a sub-folder for each class, lists or a Hugging Face data set. list: a CSV or text
    file of paths and labels. dataset, subset: on the Hugging Face hub. image, label, split: columns
    of a list or a data set, where their names don't tell. limit: how many training images a search
    draws, of each class its share; finals train on all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    folder: str | None = None
    list: str | None = None
    dataset: str | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str = Field("own", pattern=NAME)
    metric: Metric = "accuracy"
    resize: Resize = "squash"
    augment: Augment = "none"
    limit: int | None = Field(None, ge=1)

    @property
    def task(self) -> Task:
        """This task as arc_train's value."""
        return Task(
            key=self.name,
            name=self.name,
            group=self.group,
            metric=self.metric,
            resize=self.resize,
            augment=self.augment,
            limit=self.limit,
            location=Location(
                folder=None if self.folder is None else Path(self.folder),
                list=None if self.list is None else Path(self.list),
                dataset=self.dataset,
                subset=self.subset,
                image=self.image,
                label=self.label,
                split=self.split,
            ),
        )
