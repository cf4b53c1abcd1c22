"""What SITE says, as JSON, and what every site here has in common."""

import json
import os

import pymysql

# Django asks for a newer MySQLdb than PyMySQL says it is.
pymysql.version_info = (2, 2, 7, "final", 0)
pymysql.install_as_MySQLdb()

ALLOWED_HOSTS = ["*"]
DEBUG = False
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
# Nobody's password is at stake.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "urls"
USE_TZ = True

globals().update(json.loads(os.environ["SITE"]))
