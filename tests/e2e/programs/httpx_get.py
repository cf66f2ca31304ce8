"""GET an https:// URL through the demo's frontend with httpx: PKI URL."""

import ssl
import sys

import httpx

pki, url = sys.argv[1:]
tls = ssl.create_default_context(cafile=f"{pki}/frontend/ca.crt")
tls.load_cert_chain(f"{pki}/frontend/client.crt", f"{pki}/frontend/client.key")
plain = ssl.create_default_context(cafile=f"{pki}/frontend/ca.crt")
proxy = httpx.Proxy("https://2.2.2.2:8090", ssl_context=tls)
with httpx.Client(proxy=proxy, verify=plain) as client:
    response = client.get(url)
    print(response.status_code, response.text)
