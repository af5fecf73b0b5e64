"""The reasons for which a load, an unload or a fetch can fail, as far as this release knows them.

Metrics count by them. An agent of another release, or one that somebody has taken over, may send any word: what is not
among these counts as Other, so that nobody makes series without end.
"""

from __future__ import annotations

from lora_operator.artifacts import RefusedReason
from lora_operator.vllm.errors import EngineError

OTHER = "Other"
# of sources, fetches, the cache, delivery and agents; docs/sources.md says what to do about each
_OF_FILES = """
    AccessDenied AgentAnswerInvalid AgentFailed AgentStalled AgentUnauthorized AgentUnreachable AnswerTooLarge
    ArchiveInvalid ArchiveTooLarge ArchiveUnsafe AuthenticationFailed AuthenticationRequired BadAnswer BadEndpoint
    BadRegion BadRepository BucketNotFound Busy CacheFull ClockSkew ConnectTimedOut ConnectionFailed ConnectionLost
    ConnectionRefused ContainerNotFound CredentialsExpired CredentialsForOtherAccount CredentialsForOtherHost
    CredentialsIncomplete CredentialsMalformed CredentialsMissing CredentialsUnavailable DigestMismatch DiskFull
    FolderNotFound FolderNotReadable Forbidden ForbiddenAddress ForbiddenRedirect ForbiddenUrl GatedRepository
    HostNotFound Incomplete InsideAdapterVolume InvalidFingerprint InvalidName InvalidPath IoError LargerThanCache
    LeaseUnreadable LinkExpired Locked NoAdapterHere NoVersionTold NotAFolder NotFound NotReachableByAgent
    NotStored ObjectArchived ObjectEncrypted OrderInvalid OutsideAllowedRoots PathNotAbsolute PathOccupied
    PermissionDenied PodNotReady
    RangesNeeded RateLimited ReadOnly RedirectLoop RepositoryDisabled RepositoryNotFound RequestRefused RevisionNotFound
    SecretNotForAgents ServerError SizeMismatch SizeUnknown SourceChanged SourceUnavailable Stalled Throttled TimedOut
    TlsFailed TooLarge TooManyAdapters TooManyFiles TooManyRepositories Truncated UnexpectedAnswer UnexpectedFile
    Unreachable VolumeHangs VolumeMissing WrongRegion
"""
# of the operator itself
_OWN = ("ApiServerUnavailable", "InternalError", "AgentTokenMissing", "Cancelled")
# what an agent answers to a request that makes no sense to it
_OF_AGENTS = ("BadRequest", "InUse", "InvalidHolder", "Pinned", "TokenUnavailable", "Unauthorized")


def _of_engines(kind: type[EngineError]) -> frozenset[str]:
    return frozenset({kind.reason}).union(*map(_of_engines, kind.__subclasses__()))


OF_ENGINES = _of_engines(EngineError)
KNOWN = OF_ENGINES.union(_OF_FILES.split(), _OWN, _OF_AGENTS, (each.value for each in RefusedReason))


def counted(reason: str) -> str:
    """The reason as a value of a label."""
    return reason if reason in KNOWN else OTHER
