"""Pages that log in and out, leave messages, and do with the session what the request says."""

import json

from django.contrib import messages
from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse, HttpResponseForbidden, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from work import items, play


def who(request):
    return HttpResponse(request.user.get_username() or "nobody")


def form(request):
    """A page with the hidden field that every form needs."""
    field = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    return HttpResponse(f'<form method="post">{field}</form>')


def log_in(request):
    if request.method != "POST":
        return form(request)
    user = authenticate(request, username=request.POST["user"], password=request.POST["password"])
    if user is None:
        return HttpResponseForbidden("wrong password")
    login(request, user)
    return HttpResponseRedirect("/site/who")


@require_POST
def log_out(request):
    logout(request)
    return HttpResponseRedirect("/site/who")


@require_POST
def say(request):
    messages.info(request, request.POST["text"])
    return HttpResponseRedirect("/site/said")


def said(request):
    return JsonResponse([str(message) for message in messages.get_messages(request)], safe=False)


@csrf_exempt
def work(request):
    results = play(request.session, json.loads(request.body))
    return JsonResponse({"results": results, "items": items(request.session), "key": request.session.session_key})


urlpatterns = [
    path("site/login", log_in),
    path("site/logout", log_out),
    path("site/said", said),
    path("site/say", say),
    path("site/who", who),
    path("site/work", work),
]
