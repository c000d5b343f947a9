"""A client of certmint's REST API, for factory stations, CI scripts and other back ends.

Laws: it imports nothing but the standard library; every operation of the API is one method of its
name; a token leaves this process in a TLS connection and in no other way.
What it does not do: cache, log, or share one `Client` between threads.

    with Client("https://ca.example.com:8443", token, ca_file="root.pem") as client:
        for device in client.list_devices(state="active"):
            print(device.serial_number)
"""

from certmint.client.answers import (
    Approval,
    AuditEvent,
    Authority,
    Batch,
    Certificate,
    Contacts,
    CurrentCertificate,
    Device,
    DeviceRecord,
    DeviceRequest,
    Domain,
    Issued,
    Job,
    ListedCertificate,
    Manufacturer,
    Myself,
    NewToken,
    Operator,
    Owner,
    Product,
    Profile,
    Token,
    Validation,
    Window,
)
from certmint.client.campaigns import Campaign, CampaignPreview, Plan, Selection
from certmint.client.errors import ClientError, Problem, Unexpected, Unreachable
from certmint.client.operations import Client
from certmint.client.pages import Listing, Page

__all__ = [
    "Approval",
    "AuditEvent",
    "Authority",
    "Batch",
    "Campaign",
    "CampaignPreview",
    "Certificate",
    "Client",
    "ClientError",
    "Contacts",
    "CurrentCertificate",
    "Device",
    "DeviceRecord",
    "DeviceRequest",
    "Domain",
    "Issued",
    "Job",
    "ListedCertificate",
    "Listing",
    "Manufacturer",
    "Myself",
    "NewToken",
    "Operator",
    "Owner",
    "Page",
    "Plan",
    "Problem",
    "Product",
    "Profile",
    "Selection",
    "Token",
    "Unexpected",
    "Unreachable",
    "Validation",
    "Window",
]
