--- download.lua: one file from the web to its place, by curl. What is in place is always whole.
---
--- The file grows beside its place as NAME.part, survives interruptions there and is resumed by the
--- next try. Only when its size and its SHA-256 are right it gets its name, by a rename; a file that
--- was there before stays until then. What came wrong is kept as NAME.bad. One download per file, also
--- of several machines that share the folder (a lock). Nothing here waits; everything runs in child
--- processes, in timers and in the library's worker.

local child = require('gemma.child')
local lock = require('gemma.lock')
local log = require('gemma.log')
local util = require('gemma.util')

local M = {}

local uv = vim.uv

M.POLL_MS = 250 -- between two looks at the size
M.RETRY_MS = 2000 -- after a connection broke; doubled with each try in vain
M.RESERVE = 64 * 1024 * 1024 -- bytes that stay free on the disk

local TRIES = 5 -- in vain, one after the other

---@class (exact) gemma.DownloadOpts
---@field url string
---@field path string
---@field bytes integer? as published
---@field sha256 string? as published
---@field on_done fun(err: string?, info: gemma.DownloadInfo?)

---@class (exact) gemma.DownloadInfo
---@field sha256 string
---@field source 'published'|'host'|'first' where the sum to compare with came from
---@field bytes integer

---@class gemma.Download
---@field o gemma.DownloadOpts
---@field name string
---@field part string
---@field progress gemma.Progress
---@field bytes integer? how many there will be
---@field sha256 string?
---@field tag string? tells versions of the file apart; nil where the sum does
---@field source 'published'|'host'|'first'
---@field over boolean
---@field proc vim.SystemObj?
---@field timer uv.uv_timer_t?
---@field hash gemma.Job?
---@field most integer bytes that were ever there
---@field vain integer tries since then
---@field autocmd integer
local Download = {}
Download.__index = Download

-- ---- ends ----------------------------------------------------------------------------------

---@param err string? nil: it is in place
---@param info gemma.DownloadInfo?
function Download:finish(err, info)
  if self.over then
    return
  end
  self.over = true
  if self.timer then
    self.timer:stop()
    self.timer:close()
  end
  if self.proc then
    self.proc:kill('sigterm')
  end
  if self.hash then
    self.hash:cancel()
  end
  pcall(vim.api.nvim_del_autocmd, self.autocmd)
  lock.release(self.part .. '.lock')
  if err then
    log.info('%s: %s', self.name, err)
    self.progress:fail('failed')
  else
    self.progress:done('installed')
  end
  self.o.on_done(err, info)
end

--- Ends it; what has come stays for the next time.
function Download:stop()
  self:finish(
    ('the download of %s was stopped; :Gemma install model resumes it.'):format(self.name)
  )
end

--- What came is not what was published. It is moved away, so that the next try starts anew.
---@param why string
function Download:bad(why)
  uv.fs_rename(self.part, self.o.path .. '.bad')
  os.remove(self.part .. '.info')
  self:finish(('%s for %s; kept as %s.bad.'):format(why, self.name, self.name))
end

-- ---- the last steps ------------------------------------------------------------------------

---@param hex string
function Download:settle(hex)
  local models = require('gemma.models')
  -- The record of the file before would accuse the new one if we ended between the two renames.
  os.remove(models.sum_path(self.o.path))
  local ok, err = uv.fs_rename(self.part, self.o.path)
  if not ok then
    return self:finish(('cannot move %s to its place: %s'):format(self.name, err))
  end
  os.remove(self.part .. '.info')
  models.record_sum(self.o.path, hex)
  self:finish(nil, { sha256 = hex, source = self.source, bytes = self.bytes })
end

--- The file is on the disk, not only in memory, before it gets its name.
---@param hex string
function Download:sync(hex)
  uv.fs_open(self.part, 'r+', 438, function(_, fd)
    if not fd then
      return vim.schedule(function()
        self:settle(hex)
      end)
    end
    uv.fs_fsync(fd, function()
      uv.fs_close(fd)
      vim.schedule(function()
        if not self.over then
          self:settle(hex)
        end
      end)
    end)
  end)
end

function Download:check_sum()
  local job, err = require('gemma.engine').hash(self.part, {
    on_progress = function(done, total)
      self.progress:report(total > 0 and done / total * 100 or nil, 'checking ' .. self.name)
    end,
    on_done = function(hex)
      self.hash = nil
      if self.over then
        return
      elseif self.sha256 and hex ~= self.sha256 then
        return self:bad('checksum differs')
      end
      self:sync(hex)
    end,
    on_error = function(e)
      self.hash = nil
      self:finish(
        ('cannot check %s: %s. Run :Gemma install model again.'):format(self.name, e.text)
      )
    end,
  })
  if not job then
    return self:finish(err)
  end
  self.hash = job
end

--- An error page is small, no model, and nothing to resume.
---@return boolean
function Download:is_gguf()
  local f = io.open(self.part, 'rb')
  local magic = f and f:read(4)
  if f then
    f:close()
  end
  return magic == 'GGUF'
end

--- Everything has come that the host wanted to send.
function Download:check()
  local stat = uv.fs_stat(self.part)
  local size = stat and stat.size or 0
  if not self:is_gguf() then
    os.remove(self.part)
    return self:finish(('what came from %s is no GGUF file. Check the address.'):format(self.o.url))
  elseif self.bytes and size ~= self.bytes then
    return self:bad(('%d bytes came instead of %d'):format(size, self.bytes))
  end
  self.bytes = size
  self:check_sum()
end

-- ---- fetching ------------------------------------------------------------------------------

---@return integer bytes that have come
function Download:have()
  local stat = uv.fs_stat(self.part)
  return stat and stat.size or 0
end

--- Bytes that a user may still write to a folder's disk.
---@param dir string
---@return number? nil when nobody knows
function M.free(dir)
  local stat = uv.fs_statfs(dir)
  return stat and stat.bavail * stat.bsize or nil
end

---@return string? err
function Download:no_room()
  local dir = vim.fs.dirname(self.o.path)
  local free = M.free(dir)
  local need = self.bytes and self.bytes - self:have()
  if free and need and need + M.RESERVE > free then
    local fmt = 'not enough room in %s: %s more are needed, %s are free.'
    return fmt:format(vim.fn.fnamemodify(dir, ':~'), util.bytes(need), util.bytes(free))
  end
end

---@param url string
---@return string? host and port
local function host_of(url)
  return url:match('^%a[%w+.-]*://([^/?#]+)')
end

--- What curl's exit status means to the user.
---@param self gemma.Download
---@param code integer
---@param detail string
---@return string
local function explain(self, code, detail)
  local host = host_of(self.o.url) or self.o.url
  if code == 5 or code == 97 then
    return ('the proxy of your environment (https_proxy) does not work: %s.'):format(detail)
  elseif code == 6 then
    return ('cannot find %s. Is there a network?'):format(host)
  elseif code == 7 then
    -- It names the proxy when that is what cannot be reached.
    local other = not detail:find(host:gsub(':%d+$', ''), 1, true) and detail ~= ''
    return ('cannot connect to %s%s.'):format(host, other and (': %s'):format(detail) or '')
  elseif code == 22 then
    local status = detail:match('error: (%d+)') or '?'
    if status == '401' or status == '403' then
      return ('%s refuses to send %s (%s): it wants an account there.'):format(
        host,
        self.name,
        status
      )
    end
    return ('%s answers %s for %s.'):format(host, status, self.o.url)
  elseif code == 23 then
    local free = M.free(vim.fs.dirname(self.o.path))
    local fmt = 'cannot write %s (disk full? %s free); what has come is kept.'
    return fmt:format(self.name, free and util.bytes(free) or '?')
  elseif code == 28 then
    return ('%s does not answer any more; :Gemma install model resumes.'):format(host)
  elseif code == 35 or code == 51 or code == 58 or code == 60 or code == 77 or code == 83 then
    return ('the certificate of %s is not trusted (%s).'):format(host, detail)
  end
  local fmt = 'the connection to %s broke (%s); :Gemma install model resumes.'
  return fmt:format(host, detail ~= '' and detail or 'curl ' .. code)
end

--- Worth another try: the connection broke, or the host is busy.
---@param code integer
---@param detail string
---@return boolean
local function transient(code, detail)
  local status = code == 22 and tonumber(detail:match('error: (%d+)')) or 0
  return vim.tbl_contains({ 18, 28, 52, 55, 56, 92 }, code) or status == 429 or status >= 500
end

--- Only https, also after redirects, where we began with it.
---@param url string
---@return string[]
local function curl(url)
  local proto = url:match('^https:') and '=https' or '=http,https'
  -- stylua: ignore
  return {
    'curl', '--silent', '--show-error', '--location', '--max-redirs', '10',
    '--proto', proto, '--proto-redir', proto, '--connect-timeout', '20', '--globoff',
  }
end

---@param res vim.SystemCompleted
---@param before integer bytes when it began
function Download:fetched(res, before)
  self.timer:stop()
  self.proc = nil
  if self.over then
    return
  elseif res.code == 0 and res.signal == 0 then
    return self:check()
  end
  local detail = vim.trim((res.stderr or ''):gsub('^curl: %(%d+%) ', '')):match('^[^\n]*') or ''
  log.info('%s: curl %d, signal %d: %s', self.name, res.code, res.signal, detail)
  if self.bytes and self:have() > self.bytes then
    return self:bad(('more than %d bytes came'):format(self.bytes)) -- watch() has ended it
  elseif self.full then
    self.full = false
    local dir = vim.fn.fnamemodify(vim.fs.dirname(self.o.path), ':~')
    return self:finish(('the disk of %s is full. Make room and try again.'):format(dir))
  elseif res.signal ~= 0 then
    -- 25: a limit on the size of files (SIGXFSZ).
    return self:finish(
      explain(self, res.signal == 25 and 23 or 0, 'ended by signal ' .. res.signal)
    )
  end
  -- A host that breaks at the same place each time must not keep us busy for ever.
  local have = self:have()
  self.vain = have > self.most and 0 or self.vain + 1
  self.most = math.max(have, self.most)
  local no_range = (res.code == 33 or res.code == 36 or detail:match('error: 416')) and before > 0
  if no_range and self.vain < TRIES then
    os.remove(self.part)
    return self:fetch()
  elseif no_range or not transient(res.code, detail) or self.vain >= TRIES then
    return self:finish(explain(self, res.code, detail))
  end
  self.progress:report(nil, ('%s; trying again'):format(detail))
  self.timer:start(
    M.RETRY_MS * 2 ^ self.vain,
    0,
    vim.schedule_wrap(function()
      if not self.over then
        self:fetch()
      end
    end)
  )
end

--- Tells how far it is, and ends what sends more than it should.
---@param since number ms
---@param before integer bytes then
function Download:watch(since, before)
  self.timer:start(M.POLL_MS, M.POLL_MS, function()
    uv.fs_stat(self.part, function(_, stat)
      if not stat or self.over then
        return
      end
      local rate = (stat.size - before) / math.max(uv.now() - since, 1) * 1000
      local text = ('%s: %s'):format(self.name, util.bytes(stat.size))
      if self.bytes then
        text = ('%s of %s'):format(text, util.bytes(self.bytes))
      end
      if rate > 0 then
        text = ('%s, %s/s'):format(text, util.bytes(rate))
      end
      self.progress:report(self.bytes and stat.size / self.bytes * 100, text)
      if self.bytes and stat.size > self.bytes and self.proc then
        self.proc:kill('sigterm')
      end
    end)
    -- Of a file of unknown length there is no other end, and others may fill the disk meanwhile.
    uv.fs_statfs(vim.fs.dirname(self.part), function(_, disk)
      if disk and disk.bavail * disk.bsize < M.RESERVE and self.proc and not self.over then
        self.full = true
        self.proc:kill('sigterm')
      end
    end)
  end)
end

function Download:fetch()
  local before = self:have()
  if self.bytes and before == self.bytes then
    return self:check()
  elseif self.bytes and before > self.bytes then
    os.remove(self.part)
    before = 0
  end
  local err = self:no_room()
  if err then
    return self:finish(err)
  end
  local argv = curl(self.o.url)
  vim.list_extend(argv, { '--fail', '--speed-limit', '1', '--speed-time', '60' })
  if before > 0 then
    vim.list_extend(argv, { '--continue-at', tostring(before) })
  end
  vim.list_extend(argv, { '--output', self.part, '--url', self.o.url })
  local ok, proc = pcall(
    vim.system,
    child.tied(argv, 'TERM'), -- two that write one file would spoil it
    { text = true, stdin = true },
    vim.schedule_wrap(function(res)
      self:fetched(res, before)
    end)
  )
  if not ok then
    return self:finish('cannot start curl: ' .. child.why(proc))
  end
  self.proc = proc
  self:watch(uv.now(), before)
end

-- ---- before it begins ----------------------------------------------------------------------

---@param value string
---@return integer?
local function size(value)
  local n = #value < 16 and value:match('^%d+$')
  return n and tonumber(n) or nil
end

--- Size and sum as the host's headers have them. Hosts of large files name the SHA-256 of the file
--- in x-linked-etag; any other tag is not a sum, but another one means another file. Only the host that was
--- asked vouches for the file: another one to which it redirects would vouch for its own bytes.
---@param headers string of all answers, redirects first
---@param url string that was asked for
---@return integer? status of the last answer
---@return integer? bytes
---@return string? sha256
---@return string? tag of the last answer: its strong ETag, or else its date
local function read_headers(headers, url)
  local status, bytes, linked, sha256, etag, modified
  local asked = host_of(url)
  local here = asked
  local next_host = asked
  for line in headers:gmatch('[^\r\n]+') do
    local code = line:match('^HTTP/[%d.]+ (%d+)')
    if code then
      status, bytes, etag, modified = tonumber(code), nil, nil, nil
      here = next_host
    end
    local key, value = line:match('^([%w-]+):%s*(.-)%s*$')
    key = key and key:lower()
    if key == 'location' then
      next_host = host_of(value) or here -- most are relative
    elseif key == 'content-length' then
      bytes = size(value)
    elseif key == 'x-linked-size' and here == asked then
      linked = size(value)
    elseif key == 'x-linked-etag' and here == asked then
      local hex = value:gsub('"', '')
      sha256 = hex:match('^%x+$') and #hex == 64 and hex:lower() or sha256
    elseif key == 'etag' then
      etag = value:match('^".*"$')
    elseif key == 'last-modified' then
      modified = value
    end
  end
  return status, linked or bytes, sha256, etag or modified
end
M.read_headers = read_headers

--- What has come before belongs to this file, or it is thrown away.
---@param told boolean whether the host has told about the file
function Download:claim_part(told)
  local f = io.open(self.part .. '.info', 'rb')
  local ok, info = pcall(vim.json.decode, f and f:read('*a') or '')
  if f then
    f:close()
  end
  local same = ok and type(info) == 'table' and info.url == self.o.url
  for _, key in ipairs({ 'bytes', 'sha256', 'tag' }) do
    same = same and (not info[key] or not self[key] or info[key] == self[key])
  end
  if not same then
    os.remove(self.part)
  elseif not told then
    self.bytes = self.bytes or info.bytes
    self.tag = self.tag or info.tag
    if not self.sha256 and info.sha256 then
      self.sha256, self.source = info.sha256, 'host'
    end
  end
  f = io.open(self.part .. '.info', 'wb')
  if f then
    f:write(vim.json.encode({
      url = self.o.url,
      bytes = self.bytes,
      sha256 = self.sha256,
      tag = self.tag,
    }))
    f:close()
  end
end

---@param res vim.SystemCompleted
function Download:asked(res)
  self.proc = nil
  if self.over then
    return
  end
  local status, bytes, sha256, tag = read_headers(res.stdout or '', self.o.url)
  local detail = vim.trim((res.stderr or ''):gsub('^curl: %(%d+%) ', ''))
  if res.code ~= 0 or res.signal ~= 0 then
    return self:finish(explain(self, res.code, detail))
  elseif status == 401 or status == 403 or status == 404 or status == 410 then
    return self:finish(explain(self, 22, 'error: ' .. status))
  elseif status == 200 then
    if self.bytes and bytes and bytes ~= self.bytes then
      local fmt = '%s has another size now: %d bytes instead of %d. Nothing was loaded.'
      return self:finish(fmt:format(self.o.url, bytes, self.bytes))
    end
    self.bytes = self.bytes or bytes
    if not self.sha256 and sha256 then
      self.sha256, self.source = sha256, 'host'
    end
    -- Mirrors of one host differ in their tags; the sum is the better one.
    self.tag = not self.sha256 and tag or nil
  end
  -- A host that does not answer this question may still send the file.
  self:claim_part(status == 200)
  self:fetch()
end

function Download:ask()
  local argv =
    vim.list_extend(curl(self.o.url), { '--head', '--max-time', '60', '--url', self.o.url })
  local ok, proc = pcall(
    vim.system,
    argv,
    { text = true },
    vim.schedule_wrap(function(res)
      self:asked(res)
    end)
  )
  if not ok then
    return self:finish('cannot start curl: ' .. child.why(proc))
  end
  self.proc = proc
end

--- Begins. on_done comes exactly once, on the main loop.
---@param o gemma.DownloadOpts
---@return gemma.Download? nil when it cannot begin; on_done has told why
function M.start(o)
  local name = vim.fs.basename(o.path)
  if vim.fn.executable('curl') == 0 then
    return o.on_done(
      'curl was not found. Install it, or put the model into '
        .. vim.fn.fnamemodify(vim.fs.dirname(o.path), ':~')
        .. ' yourself.'
    )
  end
  local made, err = pcall(vim.fn.mkdir, vim.fs.dirname(o.path), 'p')
  if not made then
    return o.on_done(('cannot make the folder for %s: %s'):format(name, err))
  end
  local part = o.path .. '.part'
  local taken, holder = lock.take(part .. '.lock', {})
  if not taken then
    return o.on_done(
      holder and ('%s downloads %s already.'):format(lock.who(holder), name)
        or ('cannot write into %s.'):format(vim.fs.dirname(o.path))
    )
  end
  lock.keep(part .. '.lock')
  local self = setmetatable({
    o = o,
    name = name,
    part = part,
    bytes = o.bytes,
    sha256 = o.sha256,
    source = o.sha256 and 'published' or 'first',
    most = 0,
    vain = 0,
    over = false,
    timer = assert(uv.new_timer()),
    progress = require('gemma.progress').start('install', 'asking for ' .. name),
  }, Download)
  self.autocmd = vim.api.nvim_create_autocmd('VimLeavePre', {
    callback = function()
      self:stop()
    end,
  })
  log.info('downloading %s', o.url)
  self:ask()
  return not self.over and self or nil
end

return M
