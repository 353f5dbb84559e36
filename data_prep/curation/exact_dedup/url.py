"""One spelling for URLs of the same page."""

from urllib.parse import urlsplit, urlunsplit

DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
TRACKING = ("gclid", "fbclid", "msclkid")


def normal_url(url: str) -> str:
    """The URL after the syntax-based rules of RFC 3986, section 6.2, that are safe, and without tracking.

    Scheme and host in lower case, no default port, no fragment, no slash at the end of the path, no empty query, no
    parameters `utm_*`, `gclid`, `fbclid`, `msclkid`. The order of parameters, percent-encoding, user information and
    the scheme (http or https) stay. What cannot be parsed is only stripped of white space.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    scheme = parts.scheme.lower()
    user, at, _ = parts.netloc.rpartition("@")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != DEFAULT_PORTS.get(scheme):
        host += f":{port}"
    query = "&".join(each for each in parts.query.split("&") if each and not _is_tracking(each))
    return urlunsplit((scheme, user + at + host, parts.path.rstrip("/"), query, ""))


def _is_tracking(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return name.startswith("utm_") or name in TRACKING
