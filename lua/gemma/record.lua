--- record.lua: a recording in progress, of the voice or of the screen. One at a time.
---
--- Owns the recorder's process, its output, and the timer that runs while it does. Voice is handed
--- to the model while it is recorded: about once a second a job reads what is new, so that after the
--- end only the last moment is left to read. Does not know what the recording is for.

local config = require('gemma.config')
local log = require('gemma.log')
local notify = require('gemma.notify')
local samples = require('gemma.samples')
local tools = require('gemma.tools')
local util = require('gemma.util')

local M = {}

local uv = vim.uv

local LEAST = 0.3 -- seconds; less was a mistake
local KILL_MS = 1500 -- after this the recorder is not asked again
local DRAIN_MS = 500 -- for its output, when it is gone
local SAID = 60 -- cells of a recorder's own words; all of them go to the log
local PATIENCE = 5 -- seconds over the limit without the samples for it

---@class (exact) gemma.record.Opts
---@field kind 'voice'|'screen'
---@field tag string? whose it is
---@field session integer? of the question, for reading ahead
---@field before (fun(sound: gemma.Sound): gemma.Part[])? the prompt up to and with the sound
---@field on_done fun(a: gemma.Media) it ended well
---@field on_fail fun()? it was given up, by the user or with a message
---@field on_tick fun(seconds: number)? about once a second

---@class gemma.Recording
---@field o gemma.record.Opts
---@field found gemma.Tool[] those not tried yet
---@field tool gemma.Tool
---@field state 'recording'|'stopping'|'cancelled'|'over'
---@field why 'stop'|'limit'|'cancel'|'vanished'
---@field started number ms
---@field timer uv.uv_timer_t
---@field proc uv.uv_process_t?
---@field stdin uv.uv_pipe_t?
---@field said string the end of what the recorder wrote to its standard error
---@field file string? of the screen
---@field keep boolean
---@field samples gemma.Samples
---@field chunks string[] all samples; the sound can be made anew from them
---@field sent integer how many of the chunks the sound has
---@field sound gemma.Sound?
---@field warm gemma.Job? reads ahead
---@field warm_at integer chunks that it had
local Recording = {}
Recording.__index = Recording

local current ---@type gemma.Recording?

--- The recording under way.
---@return { kind: 'voice'|'screen', tag: string?, seconds: number }?
function M.active()
  if current then
    return { kind = current.o.kind, tag = current.o.tag, seconds = current:seconds() }
  end
end

--- "rec 0:07"; nil when nothing is recorded. Costs nothing.
---@return string?
function M.statusline()
  return current and 'rec ' .. util.duration(math.floor(current:seconds())) or nil
end

--- Of voice, what has really come: a microphone that is silent as a stone shows at once.
---@return number
function Recording:seconds()
  if self.o.kind == 'voice' then
    return self.samples:seconds()
  end
  return (uv.now() - self.started) / 1000
end

local function redraw()
  vim.cmd.redrawstatus({ bang = true })
end

-- ---- the model listens ---------------------------------------------------------------------

--- Gives the sound what it does not have. Makes it when the model is there.
function Recording:feed()
  local engine = require('gemma.engine')
  if not engine.is_loaded() or not self.samples.rate then
    return
  end
  if self.sound and not self.sound:lives() then
    self.sound = nil -- the model was unloaded meanwhile; the chunks are all still here
  end
  if not self.sound then
    local sound, err = require('gemma.sound').create(self.samples.rate, self.samples.channels)
    if not sound then
      log.warn('no sound: %s', err)
      return
    end
    self.sound, self.sent = sound, 0
  end
  while self.sent < #self.chunks do
    local ok, err = self.sound:append(self.chunks[self.sent + 1])
    if not ok and err ~= 'full' then
      -- The model was unloaded meanwhile; the chunks are all still here.
      self.sound = nil
      return
    end
    self.sent = self.sent + 1
  end
end

--- Lets the model read what is new, in the session of the question.
function Recording:read_ahead()
  if not self.sound or not self.o.before or self.warm or self.warm_at == self.sent then
    return
  end
  local function over()
    self.warm = nil
  end
  self.warm_at = self.sent
  self.warm = require('gemma.engine').generate({
    parts = self.o.before(self.sound),
    session = self.o.session,
    priority = 'background',
    quiet = true,
    max_tokens = 0,
    on_done = over,
    on_error = over,
  })
end

-- ---- the end -------------------------------------------------------------------------------

function Recording:close()
  self.state = 'over'
  if current == self then
    current = nil
  end
  if not self.timer:is_closing() then
    self.timer:stop()
    self.timer:close()
  end
  notify.event('GemmaRecordStop', {
    kind = self.o.kind,
    seconds = self:seconds(),
    reason = self.why,
  })
  redraw()
end

--- Nothing comes of it.
---@param msg string?
function Recording:fail(msg)
  if self.sound then
    self.sound:drop()
  end
  if self.file and not self.keep then
    uv.fs_unlink(self.file)
  end
  self:close()
  if msg then
    notify.warn(msg)
  end
  if self.o.on_fail then
    self.o.on_fail()
  end
end

--- The last words of the recorder, as a reason.
---@return string
function Recording:reason()
  local line
  for l in self.said:gmatch('[^\r\n]+') do
    line = l:find('%S') and l or line
  end
  if not line then
    return ('%s ended at once.'):format(self.tool.name)
  end
  line = vim.trim(line:gsub('%c', ' ')):gsub('[.:]+$', '')
  -- Most begin with their own name.
  local rest = line:match('^' .. vim.pesc(self.tool.name) .. ':%s*(.*)$') or line
  log.warn('%s: %s', self.tool.name, rest)
  rest = util.fit(rest, SAID, '...')
  return ('%s: %s.'):format(self.tool.name, rest)
end

function Recording:keep_voice()
  if not config.get().media.keep then
    return
  end
  local grab = require('gemma.grab')
  local path, err = grab.place('voice', 'wav')
  if path then
    local pcm = table.concat(self.chunks)
    err = grab.write(path, samples.wav(pcm, self.samples.rate, self.samples.channels))
  end
  if err and err ~= true then
    notify.warn(('the recording is not kept: %s.'):format((err:gsub('%.$', ''))))
  end
end

--- The voice, once the model is there to hear it.
function Recording:deliver_voice()
  local media = require('gemma.media')
  local seconds = self.samples:seconds()
  self:close()
  self:keep_voice()
  require('gemma.ready').load(function(err)
    if err then
      return self.o.on_fail and self.o.on_fail()
    end
    self:feed()
    if not self.sound then
      notify.warn('the recording could not be handed to the model. See :Gemma log.')
      return self.o.on_fail and self.o.on_fail()
    end
    self.sound:finish()
    self.o.on_done(media.sound(self.sound, seconds, {
      pcm = table.concat(self.chunks),
      rate = self.samples.rate,
      channels = self.samples.channels,
    }))
  end)
end

function Recording:deliver_screen()
  local a, err =
    require('gemma.media').file(self.file, { temp = not self.keep, name = 'screen.mkv' })
  if not a then
    return self:fail(err)
  end
  self:close()
  self.o.on_done(a)
end

--- The recorder is gone and its output is read.
function Recording:ended()
  if self.state == 'over' then
    return
  elseif self.state == 'cancelled' then
    return self:fail()
  end
  local stat = self.file and uv.fs_stat(self.file)
  local seconds = self.o.kind == 'voice' and self.samples:seconds()
    or (stat and stat.size > 0) and self:seconds()
    or 0
  local vanished = self.state == 'recording'
  if vanished then
    self.why = 'vanished'
  end
  if self.samples.err then
    return self:fail(('%s: %s.'):format(self.tool.name, self.samples.err))
  elseif seconds >= LEAST then
    if vanished then
      local fmt = '%s ended by itself; going on with the %s that there are.'
      notify.warn(fmt:format(self.tool.name, util.duration(seconds)))
    end
    if self.o.kind == 'voice' then
      return self:deliver_voice()
    end
    return self:deliver_screen()
  elseif vanished and self.samples.n == 0 and #self.found > 0 then
    self:reason() -- goes to the log
    return self:run() -- of several recorders one may have no server to talk to
  end
  self:fail(vanished and self:reason() or 'nothing was recorded.')
end

-- ---- the recorder --------------------------------------------------------------------------

---@param data string
function Recording:on_samples(data)
  if self.state == 'over' or self.state == 'cancelled' then
    return
  end
  local pcm = self.samples:feed(data)
  if self.samples.err then
    return self:interrupt()
  end
  local limit = config.get().media.seconds
  local over = self.samples:seconds() - limit
  if over > 0 then
    local frame = 2 * self.samples.channels
    local cut = math.min(#pcm, math.floor(over * self.samples.rate + 0.5) * frame)
    self.samples.n = self.samples.n - cut
    pcm = pcm:sub(1, #pcm - cut)
  end
  if pcm ~= '' then
    self.chunks[#self.chunks + 1] = pcm
    self:feed()
  end
  if over >= 0 and self.state == 'recording' then
    self:limit()
  end
end

function Recording:limit()
  notify.info(('the recording ended after %d s, the limit.'):format(config.get().media.seconds))
  self:stop('limit')
end

--- Asks the recorder to end; it must, a little later.
function Recording:interrupt()
  local proc = self.proc
  if not proc or proc:is_closing() then
    return
  end
  if self.stdin then
    self.stdin:write(self.tool.quit)
  else
    proc:kill('sigint')
  end
  vim.defer_fn(function()
    if not proc:is_closing() then
      proc:kill('sigkill')
    end
  end, KILL_MS)
end

---@param why 'stop'|'limit'
function Recording:stop(why)
  if self.state == 'recording' then
    self.state, self.why = 'stopping', why
    self:interrupt()
  end
end

function Recording:tick()
  if self.o.on_tick then
    self.o.on_tick(self:seconds())
  end
  self:read_ahead()
  local since = (uv.now() - self.started) / 1000
  local limit = config.get().media.seconds + (self.o.kind == 'voice' and PATIENCE or 0)
  if self.state == 'recording' and since >= limit then
    self:limit()
  end
  redraw()
end

--- Starts a program. What it writes comes to `out` and `said` in pieces, in a libuv callback.
---@param argv string[]
---@param stdin uv.uv_pipe_t? closed with the program
---@param out fun(data: string)
---@param said fun(data: string)
---@param over fun() scheduled, once it has ended and what it wrote has come
---@return uv.uv_process_t?
---@return string? err
local function spawn(argv, stdin, out, said, over)
  local stdout, stderr = uv.new_pipe(), uv.new_pipe()
  local open, gone = 2, false -- of the pipes; the process
  local function finish()
    if gone and open == 0 then
      open = -1
      vim.schedule(over)
    end
  end
  local function close(pipe)
    if not pipe:is_closing() then
      pipe:close()
      open = open - 1
      finish()
    end
  end
  local proc, err
  proc, err = uv.spawn(argv[1], {
    args = vim.list_slice(argv, 2),
    stdio = { stdin, stdout, stderr },
    hide = true,
  }, function()
    proc:close()
    if stdin then
      stdin:close()
    end
    gone = true
    -- A child of its own may hold the pipes; what it would say is not waited for.
    vim.defer_fn(function()
      close(stdout)
      close(stderr)
    end, DRAIN_MS)
    finish()
  end)
  for pipe, heard in pairs({ [stdout] = out, [stderr] = said }) do
    if proc then
      pipe:read_start(function(_, data)
        if not data then
          return close(pipe)
        end
        heard(data)
      end)
    else
      pipe:close()
    end
  end
  if not proc and stdin then
    stdin:close()
  end
  return proc, err
end

--- Starts the next of the recorders that were found.
function Recording:run()
  local tool = table.remove(self.found, 1)
  self.tool, self.said, self.samples = tool, '', samples.new()
  local env = tools.env()
  local argv = tool.argv(env, self.file)
  self.stdin = tool.quit and env.os == 'win' and uv.new_pipe() or nil
  local tied = self.o.kind == 'screen' and env.os ~= 'win'
  if tied then -- a voice recorder ends where its output does, and makes no file
    local private = vim.list_extend({ 'sh', '-c', 'umask 077; exec "$0" "$@"' }, argv)
    argv = require('gemma.child').tied(private, 'INT')
  end
  local err
  self.proc, err = spawn(argv, tied and uv.new_pipe() or self.stdin, function(data)
    if self.o.kind == 'voice' then
      vim.schedule(function()
        self:on_samples(data)
      end)
    end
  end, function(data)
    self.said = (self.said .. data):sub(-1000)
  end, function()
    self:ended()
  end)
  if not self.proc then
    self.said = tostring(err)
    return self:ended()
  end
  log.info('recording with %s', table.concat(argv, ' '))
end

--- Gives the sound to the model as soon as that is there. Nobody waits for it: what is said while it
--- loads is kept.
function Recording:wake_model()
  local function on_model(err)
    if not err then
      if self.state ~= 'over' then
        self:feed()
      end
    elseif self.state == 'recording' then
      self.state, self.why = 'cancelled', 'cancel'
      self:interrupt()
      notify.warn(err)
    end
  end
  local ok, why_not = require('gemma.engine').load(on_model)
  if not ok then
    on_model(why_not)
  end
end

--- The recorders for it, the first one first; nil and why there can be no recording now.
---@param kind 'voice'|'screen'
---@return gemma.Tool[]?
---@return string? err
local function recorders(kind)
  if current then
    return nil, 'a recording is under way. :Gemma record stop ends it.'
  end
  local why = require('gemma.engine').media_reason()
  if why then
    return nil, why
  end
  local conf = config.get().media
  local found, err =
    tools.choose(kind, kind == 'voice' and conf.recorder or conf.screen, tools.env())
  if #found == 0 then
    return nil, err
  end
  return vim.list_extend({}, found)
end

--- Starts recording. False, and a message, when that cannot be.
---@param o gemma.record.Opts
---@return boolean
function M.start(o)
  local found, err = recorders(o.kind)
  local file, keep
  if found and o.kind == 'screen' then
    file, keep = require('gemma.grab').place('screen', found[1].ext)
    err = not file and keep or nil
  end
  if not found or err then
    notify.warn(err --[[@as string]])
    return false
  end
  local self = setmetatable({
    o = o,
    found = found,
    state = 'recording',
    why = 'stop',
    started = uv.now(),
    timer = assert(uv.new_timer()),
    said = '',
    file = file,
    keep = keep == true,
    samples = samples.new(),
    chunks = {},
    sent = 0,
    warm_at = 0,
  }, Recording)
  current = self
  vim.api.nvim_create_autocmd('VimLeavePre', {
    group = vim.api.nvim_create_augroup('gemma.record', {}),
    callback = M.leave,
  })
  require('gemma.highlight').ensure()
  self.timer:start(1000, 1000, function()
    vim.schedule(function()
      if self.state == 'recording' or self.state == 'stopping' then
        self:tick()
      end
    end)
  end)
  notify.event('GemmaRecordStart', { kind = o.kind, tool = found[1].name })
  self:run()
  redraw()
  self:wake_model()
  return current == self
end

--- Ends the recording under way; what was recorded is used.
---@return boolean there was one
function M.stop()
  if not current then
    return false
  end
  current:stop('stop')
  return true
end

--- Ends it; what was recorded is thrown away.
---@return boolean
function M.cancel()
  local self = current
  if not self then
    return false
  end
  if self.state ~= 'cancelled' then
    self.state, self.why = 'cancelled', 'cancel'
    self:interrupt()
  end
  return true
end

--- Neovim ends: no recorder stays behind, and no file.
function M.leave()
  local self = current
  if not self then
    return
  end
  if self.proc and not self.proc:is_closing() then
    self.proc:kill('sigkill')
  end
  if self.file and not self.keep then
    uv.fs_unlink(self.file)
  end
end

return M
