"""Deploys a certificate to an F5 as users of f5-sdk and bigrest do, and prints what each step saw, as JSON.

Arguments: HOST:PORT, the client (f5-sdk or bigrest), how it logs in (token or basic), and a folder with cert.pem,
key.pem and large.bin.
"""

import json
import pathlib
import sys


def f5_sdk(host, way, folder):
    from f5.bigip import ManagementRoot

    name, port = host.rsplit(":", 1)
    root = ManagementRoot(name, "operator", "secret", port=int(port), token=way == "token")
    seen = {"version": root.tmos_version}

    uploads = root.shared.file_transfer.uploads
    for file in ("large.bin", "cert.pem", "key.pem"):
        uploads.upload_file(str(folder / file))
    downloads = "/var/config/rest/downloads/"
    for collection, file in ((root.tm.sys.crypto.certs, "cert.pem"), (root.tm.sys.crypto.keys, "key.pem")):
        collection.exec_cmd("install", **{"name": "sdk", "from-local-file": downloads + file})
    seen["certificates"] = [cert.fullPath for cert in root.tm.sys.crypto.certs.get_collection()]
    seen["keys"] = [key.fullPath for key in root.tm.sys.crypto.keys.get_collection()]
    root.tm.sys.crypto.certs.cert.load(name="sdk", partition="Common")

    profiles = root.tm.ltm.profile.client_ssls
    seen["profiles"] = [profile.fullPath for profile in profiles.get_collection()]
    profiles.client_ssl.create(name="own", partition="Common", cert="/Common/sdk", key="/Common/sdk")
    seen["exists"] = [profiles.client_ssl.exists(name=name, partition="Common") for name in ("own", "none")]
    own = profiles.client_ssl.load(name="own", partition="Common")
    own.chain = "/Common/sdk"
    own.update()
    own.refresh()
    seen["chain"] = own.chain
    own.delete()

    served = profiles.client_ssl.load(name="clientssl-certctl", partition="Common")
    seen["before"] = served.cert
    from f5.bigip.contexts import TransactionContextManager

    with TransactionContextManager(root.tm.transactions.transaction) as api:
        within = api.tm.ltm.profile.client_ssls.client_ssl.load(name="clientssl-certctl", partition="Common")
        within.modify(cert="/Common/sdk", key="/Common/sdk")
        served.refresh()
        seen["within"] = served.cert
    served.refresh()
    seen["after"] = served.cert

    if way == "token":
        token = root.icrs.session.auth.token
        tokens = root.shared.authz.tokens_s
        own = tokens.token.load(name=token)
        own.modify(timeout=2400)
        seen["timeout"] = own.timeout
        own.delete()
    return seen


def bigrest(host, way, folder):
    from bigrest.bigip import BIGIP

    device = BIGIP(host, "operator", "secret", request_token=way == "token", session_verify=False)
    seen = {}
    for file in ("large.bin", "cert.pem", "key.pem"):
        device.upload("/mgmt/shared/file-transfer/uploads", str(folder / file))
    downloads = "/var/config/rest/downloads/"
    for kind, file in (("cert", "cert.pem"), ("key", "key.pem")):
        command = {"command": "install", "name": "big", "from-local-file": downloads + file}
        device.command(f"/mgmt/tm/sys/crypto/{kind}", command)
    paths = lambda objects: [one.properties["fullPath"] for one in objects]
    seen["certificates"] = paths(device.load("/mgmt/tm/sys/crypto/cert"))
    seen["keys"] = paths(device.load("/mgmt/tm/sys/crypto/key"))

    profiles = "/mgmt/tm/ltm/profile/client-ssl"
    seen["profiles"] = paths(device.load(profiles))
    device.create(profiles, {"name": "own", "partition": "Common", "cert": "/Common/big", "key": "/Common/big"})
    seen["exists"] = [device.exist(f"{profiles}/~Common~{name}") for name in ("own", "none")]
    own = device.load(f"{profiles}/~Common~own")
    own.properties["chain"] = "/Common/big"
    seen["chain"] = device.save(own).properties["chain"]
    device.delete(f"{profiles}/~Common~own")

    served = f"{profiles}/~Common~clientssl-certctl"
    certificate = lambda: device.load(served).properties["cert"]
    seen["before"] = certificate()
    with device as transaction:
        device.modify(served, {"cert": "/Common/big", "key": "/Common/big"})
        device.transaction_validate()
        seen["within"] = certificate()
    seen["after"] = certificate()

    if way == "token":
        token = device.session.headers["X-F5-Auth-Token"]
        path = f"/mgmt/shared/authz/tokens/{token}"
        seen["timeout"] = device.modify(path, {"timeout": 2400}).properties["timeout"]
        device.delete(path)
    return seen


clients = {"f5-sdk": f5_sdk, "bigrest": bigrest}
host, client, way, folder = sys.argv[1:]
print(json.dumps(clients[client](host, way, pathlib.Path(folder))))
