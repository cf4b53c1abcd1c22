#!/usr/bin/perl
# A CGI program of the old kind, behind Cloakroom. It reads the session from an environment variable and changes it with
# the headers it prints. Nothing but core modules. Start it with:
#
#     PROGRAM=visits.pl PORT=9000 lighttpd -D -f examples/cgi/lighttpd.conf

use strict;
use warnings;
use Encode qw(decode);
use JSON::PP;

binmode STDOUT, ':encoding(UTF-8)';

my $session = decode_json($ENV{HTTP_X_SESSION_DATA} || '{}');
my $request = $ENV{REQUEST_METHOD} . ' ' . ($ENV{PATH_INFO} || '/');

if ($request eq 'POST /login') {
    my $user = form_field('user');
    if ($user !~ /\S/) {
        print "Status: 400 Bad Request\nContent-Type: text/plain\n\nA name, please.\n";
        exit;
    }
    # In ASCII and on one line, whatever the name is: a header can carry no more.
    print 'X-Session-Set: ', JSON::PP->new->ascii->encode({ user => $user }), "\n";
    print "X-Session-Action: cycle\n";    # a new key at every login
    print "Status: 303 See Other\nLocation: /\n\n";
} elsif ($request eq 'POST /logout') {
    print "X-Session-Action: flush\n";
    print "Status: 303 See Other\nLocation: /\n\n";
} elsif ($request eq 'GET /') {
    page();
} else {
    print "Status: 404 Not Found\nContent-Type: text/plain\n\nThere is no such page.\n";
}

sub page {
    my $user = $session->{user};
    print "Content-Type: text/html; charset=utf-8\n";
    print "X-Session-Incr: visits=1\n" if defined $user;
    print "\n<!doctype html>\n<title>Visits</title>\n";
    if (defined $user) {
        # This visit is counted when the answer passes the proxy, so the number at hand is one behind.
        my $visits = ($session->{visits} || 0) + 1;
        print '<p>Good day, <b>', escape($user), "</b>. This is visit $visits.</p>\n";
        print qq{<form method="post" action="/logout"><button>Log out</button></form>\n};
    } else {
        print "<p>Good day. You are not logged in.</p>\n";
        print qq{<form method="post" action="/login"><input name="user" required> <button>Log in</button></form>\n};
    }
}

# One field of the form that was sent.
sub form_field {
    my ($name) = @_;
    read STDIN, my $body, $ENV{CONTENT_LENGTH} || 0;
    for my $pair (split /&/, $body) {
        my ($key, $value) = split /=/, $pair, 2;
        next unless $key eq $name && defined $value;
        $value =~ tr/+/ /;
        $value =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
        return decode('UTF-8', $value);
    }
    return '';
}

sub escape {
    my ($text) = @_;
    my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;', "'" => '&#39;');
    $text =~ s/([&<>"'])/$entity{$1}/g;
    return $text;
}
