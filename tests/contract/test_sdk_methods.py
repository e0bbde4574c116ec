"""Every operation of the api has its method in the SDK."""

from __future__ import annotations

from operator import attrgetter

from leasing import Client
from leasing.sdk.lease import Lease
from tests.support.api import Served

METHODS = {
    "request_lease": Client.up,
    "list_leases": Client.leases,
    "show_lease": Client.lease,
    "release_lease": Lease.release,
    "renew_lease": Lease.extend,
    "suspend_lease": Lease.suspend,
    "resume_lease": Lease.resume,
    "restart_lease": Lease.restart,
    "keep_lease": Lease.keep,
    "unkeep_lease": Lease.unkeep,
    "change_endpoint": Lease.set_endpoint,
    "share_lease": Lease.share,
    "unshare_lease": Lease.unshare,
    "list_lease_tokens": Lease.tokens,
    "create_lease_token": Lease.create_token,
    "revoke_lease_token": Lease.revoke_token,
    "why_lease": Lease.why,
    "lease_logs": Lease.logs,
    "lease_events": Lease.events,
    "list_files": Lease.list_files,
    "download_files": Lease.download,
    "read_file": Lease.read_file,
    "upload_files": Lease.upload,
    "show_queue": Client.queue,
    "all_events": "admin.events",
    "show_history": "admin.history",
    "show_offers": Client.offers,
    "list_reservations": Client.reservations,
    "book_reservation": Client.reserve,
    "show_reservation": Client.reservation,
    "cancel_reservation": Client.cancel_reservation,
    "list_projects": Client.projects,
    "create_project": "admin.create_project",
    "change_project": "admin.change_project",
    "delete_project": "admin.delete_project",
    "set_member": Client.set_member,
    "remove_member": Client.remove_member,
    "list_quotas": Client.quotas,
    "list_contacts": Client.contacts,
    "store_contact": Client.set_contact,
    "test_contact": Client.test_contact,
    "remove_contact": Client.remove_contact,
    "set_quota": "admin.set_quota",
    "clear_quota": "admin.clear_quota",
    "list_workspaces": "workspaces.list",
    "create_workspace": "workspaces.create",
    "show_workspace": "workspaces.show",
    "change_workspace": "workspaces.set",
    "delete_workspace": "workspaces.delete",
    "export_workspace": "workspaces.export",
    "show_usage": Client.usage,
    "show_device_usage": "admin.device_usage",
    "list_prices": Client.prices,
    "set_price": "admin.set_price",
    "remove_price": "admin.remove_price",
    "list_nodes": Client.nodes,
    "change_node": "admin.change_node",
    "list_devices": Client.devices,
    "change_device": "admin.change_device",
    "list_environments": Client.images,
    "me": Client.me,
    "sign_in": Client.sign_in,
    "list_users": "admin.users",
    "create_user": "admin.create_user",
    "change_user": "admin.change_user",
    "make_link": Client.signin_link,
    "list_tokens": Client.tokens,
    "create_token": Client.create_token,
    "revoke_token": Client.revoke_token,
    "show_activity": "admin.activity",
    "list_policies": "admin.policies",
    "show_policy": "admin.policy",
    "set_policy": "admin.set_policy",
    "remove_policy": "admin.remove_policy",
    "list_warm": "admin.warm",
    "set_warm": "admin.keep_warm",
    "remove_warm": "admin.remove_warm",
    "list_registries": "admin.registries",
    "store_registry": "admin.add_registry",
    "remove_registry": "admin.remove_registry",
}
ABSENT = {
    "take_report": "a node's sampler sends it, with a token that is good for nothing else",
    "healthz": "for whatever restarts processes",
    "readyz": "for a load balancer",
    "metrics": "for Prometheus, in its own text format",
    "targets": "for Prometheus' discovery",
}


def test_every_operation_has_a_method_or_a_reason_for_none(api: Served) -> None:
    operations = {
        operation["operationId"]
        for methods in api.app.openapi()["paths"].values()
        for operation in methods.values()
    }
    assert operations == METHODS.keys() | ABSENT.keys()
    with Client(api.url, "any") as client:
        for method in METHODS.values():
            if isinstance(method, str):
                assert callable(attrgetter(method)(client))
