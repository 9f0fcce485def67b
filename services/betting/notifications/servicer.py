"""NotificationService over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc

from betting.journal.read_model import FIRST_PAGE
from betting.notifications import render
from betting.notifications.store import Store
from betting.runtime import paging
from betting.runtime.errors import invalid_argument
from betting.runtime.principal import require_user
from betting.v1 import notification_pb2 as pb
from betting.v1 import notification_pb2_grpc

IDS_MAX: Final = 500

Context = grpc.aio.ServicerContext[Any, Any]


class NotificationServicer(notification_pb2_grpc.NotificationServiceServicer):
    """betting.v1.NotificationService."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: Context
    ) -> pb.ListNotificationsResponse:
        """A page, newest first."""
        user_id = _user(context)
        size = paging.page_size(request.page_size)
        token = paging.decode_token(request.page_token, int)
        before = FIRST_PAGE if token is None else token[0]
        rows = await self._store.page(user_id, before, size + 1, unread_only=request.unread_only)
        shown = rows[:size]
        return pb.ListNotificationsResponse(
            notifications=[render.notification(row) for row in shown],
            next_page_token=paging.encode_token(shown[-1].sequence) if len(rows) > size else "",
        )

    async def GetUnreadCount(self, request: pb.GetUnreadCountRequest, context: Context) -> pb.GetUnreadCountResponse:
        """The unread notifications of all accounts of the user."""
        return pb.GetUnreadCountResponse(unread=await self._store.unread(_user(context)))

    async def MarkRead(self, request: pb.MarkReadRequest, context: Context) -> pb.MarkReadResponse:
        """Marks the given ids, and all up to an id, as read."""
        user_id = _user(context)
        if request.up_to_id < 0:
            raise invalid_argument("UP_TO_ID", f"up_to_id is {request.up_to_id}: give a notification_id, or 0 for none")
        if not request.notification_ids and not request.up_to_id:
            raise invalid_argument("NOTIFICATION_IDS", "nothing is named: give notification_ids, or up_to_id")
        ids = _ids(request.notification_ids)
        return pb.MarkReadResponse(marked=await self._store.mark_read(user_id, ids, request.up_to_id))

    async def DeleteNotifications(
        self, request: pb.DeleteNotificationsRequest, context: Context
    ) -> pb.DeleteNotificationsResponse:
        """Deletes the given ids."""
        user_id = _user(context)
        if not request.notification_ids:
            raise invalid_argument("NOTIFICATION_IDS", "nothing is named: give notification_ids")
        ids = _ids(request.notification_ids)
        return pb.DeleteNotificationsResponse(deleted=await self._store.delete(user_id, ids))


def _user(context: Context) -> bytes:
    user_id = require_user(context).user_id
    assert user_id is not None, "require_user has checked it"
    return user_id


def _ids(ids: Sequence[int]) -> list[int]:
    if len(ids) > IDS_MAX:
        raise invalid_argument("NOTIFICATION_IDS", f"notification_ids has {len(ids)} elements: give at most {IDS_MAX}")
    wrong = next((each for each in ids if each <= 0), None)
    if wrong is not None:
        raise invalid_argument("NOTIFICATION_IDS", f"notification_ids has {wrong}: ids are positive")
    return list(ids)
