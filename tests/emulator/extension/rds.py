"""RDS: whom a DB snapshot is shared with, and what goes with a DB cluster.

An automated DB snapshot is refused by moto as AWS does it, by its name: https://github.com/aws/aws-cli/issues/8296
"""

from typing import Any

from moto.rds.exceptions import InvalidDBClusterSnapshotStateFault, RDSClientError
from moto.rds.models import DBClusterSnapshot, SnapshotAttributesMixin
from moto.rds.responses import RDSResponse

from .patch import override


class InvalidDBSnapshotState(RDSClientError):
    """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBSnapshotAttribute.html#API_ModifyDBSnapshotAttribute_Errors"""

    def __init__(self, message: str):
        super().__init__("InvalidDBSnapshotState", message)


def install() -> None:
    """Everything below changes moto's classes when the module is loaded."""


@override(SnapshotAttributesMixin, "modify_attribute")
def _modify_attribute(original: Any, self: Any, attribute_name: str, values_to_add: Any, values_to_remove: Any) -> None:
    """An encrypted snapshot is not for all, and nobody is in the list twice. moto makes it public, and repeats values.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBSnapshotAttribute.html
    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBClusterSnapshotAttribute.html
    The pages name no error for an encrypted one; these are a guess, the only ones of theirs that fit.
    """
    added = values_to_add or []
    if self.encrypted and "all" in added:
        error = InvalidDBClusterSnapshotStateFault if isinstance(self, DBClusterSnapshot) else InvalidDBSnapshotState
        raise error("An encrypted snapshot cannot be shared with all.")
    original(self, attribute_name, added, values_to_remove)
    self.attributes[attribute_name] = list(dict.fromkeys(self.attributes[attribute_name]))


@override(RDSResponse, "delete_db_cluster")
def _delete_db_cluster(original: Any, self: RDSResponse) -> Any:
    """Automated snapshots go with their cluster, if not asked to stay. moto keeps them.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DeleteDBCluster.html
    """
    answer, cluster, backend = original(self), self.params["DBClusterIdentifier"], self.backend
    if self.params.get("DeleteAutomatedBackups", True):
        for snapshot in backend.describe_db_cluster_snapshots(cluster, None, "automated"):
            backend.delete_db_cluster_snapshot(snapshot.db_cluster_snapshot_identifier)
    return answer
