-- What wrk does to the server: each of its threads logs in some users, then visits pages in the
-- name of one after the other. It counts the answers, and what was wrong with them.

local users_of_a_thread = 50
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    sessions = {}
    visits = {}
    asked = 0
    logins, pages, wrong = 0, 0, 0
end

function request()
    asked = asked + 1
    if #sessions < users_of_a_thread then
        return wrk.format("GET", "/login?user=u" .. asked)
    end
    local sid = sessions[asked % #sessions + 1]
    return wrk.format("GET", "/page/" .. asked % 100, { Cookie = "sid=" .. sid })
end

function response(status, headers, body)
    if status ~= 200 then
        wrong = wrong + 1
    elseif headers["Set-Cookie"] then
        logins = logins + 1
        table.insert(sessions, body)
    else
        pages = pages + 1
    end
end

function done(summary, latency, requests)
    local logins, pages, wrong = 0, 0, 0
    for _, thread in ipairs(threads) do
        logins = logins + thread:get("logins")
        pages = pages + thread:get("pages")
        wrong = wrong + thread:get("wrong")
    end
    local broken = summary.errors.connect + summary.errors.read
        + summary.errors.write + summary.errors.timeout
    print(string.format(
        'JSON {"seconds": %.3f, "logins": %d, "visits": %d, "wrong": %d, "broken": %d, "p99_ms": %.3f}',
        summary.duration / 1e6, logins, pages, wrong, broken, latency:percentile(99) / 1000))
end
