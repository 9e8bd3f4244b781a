"""Signs webhooks and reads answer documents with the phone providers' own libraries.

Reads one JSON list of jobs from standard input, does them in turn, and writes one JSON list of what came of each.
Run with `python3 -I`; the folder with the libraries is the only argument.

The libraries are the reference: nothing here computes a signature or builds a document by itself.
"""

import base64
import importlib.util
import json
import pathlib
import sys
import xml.etree.ElementTree

LIBRARIES = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(LIBRARIES))


def twilio_sign(job):
    from twilio.request_validator import RequestValidator

    signature = RequestValidator(job["secret"]).compute_signature(job["url"], job["form"])
    return {"x-twilio-signature": signature}


def plivo_sign(job):
    from plivo.utils import signature_v3 as plivo

    if job["method"] == "GET":
        signed = plivo.construct_get_url(job["url"], {})
    else:
        signed = plivo.construct_post_url(job["url"], job["form"])
    signature = plivo.get_signature_v3(job["secret"].encode(), signed.decode(), job["nonce"].encode())
    headers = {"x-plivo-signature-v3": signature.decode(), "x-plivo-signature-v3-nonce": job["nonce"]}
    assert plivo.validate_v3_signature(
        job["method"], job["url"], job["nonce"], job["secret"], headers["x-plivo-signature-v3"], job.get("form")
    ), "plivo's own check refuses plivo's own signature"
    return headers


def telnyx_module():
    # Its package imports thousands of modules before this one.
    path = LIBRARIES / "telnyx" / "lib" / "webhook_verification.py"
    spec = importlib.util.spec_from_file_location("telnyx_webhook_verification", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def telnyx_key(job):
    from nacl.signing import SigningKey

    return SigningKey(bytes.fromhex(job["secret"]))


def telnyx_public_key(job):
    return base64.b64encode(telnyx_key(job).verify_key.encode()).decode()


def telnyx_sign(job):
    key = telnyx_key(job)
    signed = key.sign(f"{job['timestamp']}|{job['body']}".encode())
    headers = {
        "telnyx-timestamp": str(job["timestamp"]),
        "telnyx-signature-ed25519": base64.b64encode(signed.signature).decode(),
    }
    if job["fresh"]:
        telnyx_module().verify_webhook_signature(job["body"], headers, telnyx_public_key(job))
    return headers


def vonage_sign(job):
    import jwt
    from vonage_jwt.verify_jwt import verify_signature

    token = jwt.encode(job["claims"], job["secret"], algorithm="HS256")
    if job["fresh"]:
        assert verify_signature(token, job["secret"]), "vonage's own check refuses the token"
    return {"authorization": f"Bearer {token}"}


def canonical(text):
    return xml.etree.ElementTree.canonicalize(text)


def same_document(document, expected):
    """Whether two XML documents say the same; attributes have no order."""
    return canonical(document) == canonical(expected)


def twilio_connect(job):
    from twilio.twiml.voice_response import Connect, VoiceResponse

    response, connect = VoiceResponse(), Connect(**job.get("connect", {}))
    stream = connect.stream(url=job["stream"], **job.get("attributes", {}))
    for name, value in job["parameters"]:
        stream.parameter(name=name, value=value)
    response.append(connect)
    if "next" in job:
        response.redirect(job["next"])
    return same_document(job["document"], str(response))


def twilio_busy(job):
    from twilio.twiml.voice_response import VoiceResponse

    response = VoiceResponse()
    if "redirect" in job:
        response.redirect(job["redirect"])
    else:
        response.say(job["say"])
        response.hangup()
    return same_document(job["document"], str(response))


def plivo_connect(job):
    from plivo import plivoxml

    stream = plivoxml.StreamElement(
        job["stream"],
        bidirectional=True,
        keepCallAlive=True,
        contentType="audio/x-mulaw;rate=8000",
        extraHeaders=job["headers"],
    )
    response = plivoxml.ResponseElement().add(stream).add(plivoxml.RedirectElement(job["next"]))
    return same_document(job["document"], response.to_string(False))


def plivo_busy(job):
    from plivo import plivoxml

    response = plivoxml.ResponseElement()
    if "redirect" in job:
        response.add(plivoxml.RedirectElement(job["redirect"]))
    else:
        response.add(plivoxml.SpeakElement(job["say"]))
        response.add(plivoxml.HangupElement())
    return same_document(job["document"], response.to_string(False))


def vonage_read(job):
    """Every action goes through the library's own model and comes out as it went in."""
    from vonage_voice.models import connect_endpoints, ncco

    read = []
    for action in json.loads(job["document"]):
        action = dict(action)
        kind = action["action"]
        if kind == "connect":
            sockets = [dict(endpoint) for endpoint in action["endpoint"]]
            for socket in sockets:
                socket["contentType"] = socket.pop("content-type")
            action["endpoint"] = [connect_endpoints.WebsocketEndpoint(**socket) for socket in sockets]
            action["from_"] = action.pop("from")
            model = ncco.Connect(**action)
        elif kind == "talk":
            model = ncco.Talk(**action)
        elif kind == "notify":
            model = ncco.Notify(**action)
        else:
            raise AssertionError(f"no action {kind}")
        read.append(model.model_dump(mode="json", by_alias=True, exclude_none=True))
    return read


JOBS = {
    "twilio_sign": twilio_sign,
    "plivo_sign": plivo_sign,
    "telnyx_public_key": telnyx_public_key,
    "telnyx_sign": telnyx_sign,
    "vonage_sign": vonage_sign,
    "twilio_connect": twilio_connect,
    "twilio_busy": twilio_busy,
    "plivo_connect": plivo_connect,
    "plivo_busy": plivo_busy,
    "vonage_read": vonage_read,
}

json.dump([JOBS[job["do"]](job) for job in json.load(sys.stdin)], sys.stdout)
