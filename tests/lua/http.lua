--- http.lua: the download host of the tests: a small HTTP server on 127.0.0.1, in this process.
---
--- Serves what a test puts into `files`, with the faults that it asks for. Requests are answered
--- while the test waits for something. Bounded: a header of 16 kB, a body from memory.

local M = {}

local uv = vim.uv

---@class test.File
---@field body string
---@field cut integer[]? how many bytes of the body to send before the connection breaks, per GET
---@field claim integer? the Content-Length to name instead of the true one
---@field headers string[]? more of them
---@field no_head boolean? answer 405 to HEAD
---@field no_range boolean? always send all of it
---@field redirect string? to this path
---@field status integer? 200
---@field slow boolean? the body comes only after server.go()

---@class test.Server
---@field url string
---@field files table<string, test.File> by path
---@field requests { method: string, path: string, range: string? }[]
local Server = {}
Server.__index = Server

local TEXT = { [200] = 'OK', [206] = 'Partial Content', [302] = 'Found', [404] = 'Not Found',
  [405] = 'Method Not Allowed', [416] = 'Range Not Satisfiable' }

---@param s test.Server
---@param client uv.uv_tcp_t
---@param request string
local function answer(s, client, request)
  local method, path = request:match('^(%u+) (%S+)')
  local range = request:match('[Rr]ange: bytes=(%d+)%-')
  table.insert(s.requests, { method = method, path = path, range = range })
  local file = s.files[path] or { status = 404, body = 'no such file' }
  local status = file.redirect and 302 or file.status or 200
  local body = file.body or ''
  local from = tonumber(range)
  if method == 'HEAD' and file.no_head then
    status, body = 405, ''
  elseif from and not file.no_range and status == 200 then
    status = from < #body and 206 or 416
    body = body:sub(from + 1)
  end
  local length = #body
  if file.claim and status < 300 then
    length = file.claim - (from or 0)
  end
  local lines = { ('HTTP/1.1 %d %s'):format(status, TEXT[status] or 'Whatever') }
  table.insert(lines, ('Content-Length: %d'):format(length))
  if status == 206 then
    local total = #file.body
    table.insert(lines, ('Content-Range: bytes %d-%d/%d'):format(from, total - 1, total))
  end
  if file.redirect then
    table.insert(lines, 'Location: ' .. s.url .. file.redirect)
  end
  vim.list_extend(lines, file.headers or {})
  table.insert(lines, 'Connection: close')
  local head = table.concat(lines, '\r\n') .. '\r\n\r\n'
  local function close()
    if not client:is_closing() then
      client:close()
    end
  end
  if method == 'HEAD' then
    return client:write(head, close)
  end
  local cut = file.cut and table.remove(file.cut, 1)
  local out = cut and body:sub(1, cut) or body
  if file.slow then
    client:write(head .. out:sub(1, #out / 2))
    s.held[#s.held + 1] = function()
      client:write(out:sub(#out / 2 + 1), close)
    end
    return
  end
  client:write(head .. out, close)
end

--- Lets the slow ones go on.
function Server:go()
  for _, fn in ipairs(self.held) do
    pcall(fn)
  end
  self.held = {}
end

function Server:stop()
  self.tcp:close()
end

--- How many GET requests there were.
function Server:gets()
  return #vim.tbl_filter(function(r)
    return r.method == 'GET'
  end, self.requests)
end

---@return test.Server
function M.start()
  local s = setmetatable({ files = {}, requests = {}, held = {} }, Server)
  s.tcp = assert(uv.new_tcp())
  assert(s.tcp:bind('127.0.0.1', 0))
  s.url = ('http://127.0.0.1:%d'):format(s.tcp:getsockname().port)
  assert(s.tcp:listen(16, function()
    local client = assert(uv.new_tcp())
    s.tcp:accept(client)
    local request = ''
    client:read_start(function(err, chunk)
      request = request .. (chunk or '')
      if err or not chunk or #request > 16384 then
        if not client:is_closing() then
          client:close()
        end
      elseif request:find('\r\n\r\n', 1, true) then
        client:read_stop()
        answer(s, client, request)
      end
    end)
  end))
  return s
end

return M
