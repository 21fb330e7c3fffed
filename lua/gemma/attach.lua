--- attach.lua: :Gemma image and :Gemma shot: which picture is meant, and the question about it.
---
--- A picture is looked for in this order: the argument, the link under the cursor, the file of the
--- buffer, the clipboard, and last a list to pick from. Recordings arrive through M.ask as well.

local link = require('gemma.link')
local media = require('gemma.media')
local notify = require('gemma.notify')

local M = {}

local api = vim.api
local uv = vim.uv

local NEAR_FILES = 4000 -- directory entries looked at for the list to pick from
local NEAR_DEPTH = 3
local NEAR_SHOWN = 200
local HEAD_LINES = 200 -- in which a document names the folder of its pictures
local WHOLE_LINES = 20000 -- longer buffers are not read whole for one link

M.SYSTEM = [[
You look at pictures, screenshots, recordings and short films for somebody at work in a text editor.
Answer the question about what is attached, from what can be seen or heard in it; say so when
something cannot be made out. Be exact and brief. Quote text that matters as it stands there.
Markdown; code only where it helps.]]

local QUESTIONS = {
  image = 'What does this picture show? Begin with what matters most: of a plot the finding, of an '
    .. 'error message the cause, of a diagram the flow.',
  audio = 'What is said in this recording? Sum it up.',
  video = 'What happens in this film? Tell it in order.',
  sound = 'Listen to the recording. Answer the question in it, or do what it asks for.',
}

---@class gemma.attach.Source where the question comes from, whatever is current when there is an answer
---@field buf integer
---@field first integer? the lines of the link, 1-based
---@field last integer?

---@return gemma.attach.Source
local function here()
  return { buf = api.nvim_get_current_buf() }
end

--- Asks in the answer window.
---@param a gemma.Media
---@param question string?
---@param o gemma.attach.Source
function M.ask(a, question, o)
  if require('gemma.util').locked() or vim.fn.getcmdwintype() ~= '' then
    return vim.defer_fn(function()
      M.ask(a, question, o)
    end, 100)
  end
  local conf = require('gemma.config').get()
  local stat = a.path and uv.fs_stat(a.path)
  require('gemma.chat').open({
    key = table.concat({
      a.path or tostring(a),
      stat and stat.mtime.sec or 0,
      stat and stat.size or 0,
      question or '',
    }, '\0'),
    title = 'Gemma: ' .. (a.kind == 'sound' and 'recording' or a.name:gsub('%c', '?')),
    system = M.SYSTEM,
    source = o.buf,
    first = o.first,
    last = o.last,
    max_tokens = conf.media.max_tokens,
    prompt = question or QUESTIONS[a.kind],
    attachments = { a },
  })
end

---@param a gemma.Media?
---@param err string?
---@param question string?
---@param o gemma.attach.Source
local function ask_or_tell(a, err, question, o)
  if a then
    M.ask(a, question, o)
  elseif err then
    notify.warn(err)
  end
end

-- ---- the argument --------------------------------------------------------------------------

---@param s string
---@return boolean
local function looks_like_path(s)
  return media.looks_like(s)
    or s:match('^[/~]') ~= nil
    or s:match('^%.%.?[/\\]') ~= nil
    or s:match('^%a:[/\\]') ~= nil
    or s:match('[/\\]$') ~= nil
    or s:match('^%a[%w+.-]+://') ~= nil
    or s:match('^file:') ~= nil
end

--- What was typed, as a path and a question. A path may be quoted, may have its blanks escaped, or
--- is the longest beginning that names a file. Pure but for is_file.
---@param text string
---@param is_file fun(path: string): boolean
---@return string? path
---@return string? question
function M.parse(text, is_file)
  text = vim.trim(text)
  local function rest(s)
    s = vim.trim(s)
    return s ~= '' and s or nil
  end
  local q, quoted, after = text:match('^(["\'])(.-)%1(.*)$')
  -- A question may well be in quotes; then it is one.
  if q and (after == '' or after:match('^%s')) and (looks_like_path(quoted) or is_file(quoted)) then
    return quoted, rest(after)
  end
  local ends = {}
  for stop in (text .. ' '):gmatch('()%s') do
    if text:sub(stop - 1, stop - 1) ~= '\\' and #ends < 64 then
      ends[#ends + 1] = stop - 1
    end
  end
  for i = #ends, 1, -1 do
    local name = text:sub(1, ends[i])
    local plain = name:gsub('\\(.)', '%1')
    for _, try in ipairs(plain ~= name and { plain, name } or { name }) do
      -- "what is this" is a question although there may be a file "what".
      if (i > 1 or looks_like_path(try)) and is_file(try) then
        return try, rest(text:sub(ends[i] + 1))
      end
    end
  end
  local first = text:sub(1, ends[1] or 0)
  local plain = first:gsub('\\(.)', '%1')
  if first ~= '' and (looks_like_path(plain) or (not text:find('%s') and is_file(plain))) then
    return plain, rest(text:sub(#first + 1))
  end
  return nil, rest(text)
end

---@param path string
---@return boolean
local function is_file(path)
  if #path > 4096 or path:find('%z') then
    return false
  end
  local stat = uv.fs_stat(vim.fn.fnamemodify(media.normalize(path), ':p'))
  return stat ~= nil and stat.type ~= 'directory'
end

---@param path string as the user gave it
---@return gemma.Media?
---@return string? err
local function named(path)
  if path:match('^%a[%w+.-]+:/') or path:match('^file:') or path:match('^data:') then
    local paths, err = link.resolve({ target = path, first = 0, last = 0 }, { vim.fn.getcwd() })
    if not paths then
      return nil, err
    end
    path = vim.iter(paths):find(is_file) or paths[1]
  end
  return media.file(path)
end

--- Files and folders that begin so, for the command line.
---@param lead string
---@return string[]
function M.complete(lead)
  local plain = lead:gsub('\\(.)', '%1')
  local out = {}
  for _, path in ipairs(vim.fn.getcompletion(plain, 'file')) do
    if path:match('[/\\]$') or media.looks_like(path) then
      out[#out + 1] = path:gsub('[ \t\\]', '\\%0')
    end
  end
  return out
end

-- ---- the buffer ----------------------------------------------------------------------------

---@param buf integer
---@return string[] folders that a link in this buffer can be relative to
local function folders(buf)
  local out = {}
  local name = api.nvim_buf_get_name(buf)
  if vim.b[buf].netrw_curdir then
    out[1] = vim.b[buf].netrw_curdir
  elseif name ~= '' and not name:match('^%a[%w+.-]+://') then
    out[1] = vim.fs.dirname(vim.fn.fnamemodify(name, ':p'))
  end
  local cwd = vim.fn.getcwd()
  if cwd ~= out[1] then
    out[#out + 1] = cwd
  end
  return out
end

--- The link under the cursor of the current window.
---@param buf integer
---@return gemma.Media?
---@return string? err
---@return gemma.Link?
function M.under_cursor(buf)
  local row, col = unpack(api.nvim_win_get_cursor(0))
  local n = api.nvim_buf_line_count(buf)
  local lines, at, head
  if n <= WHOLE_LINES then
    lines, at = api.nvim_buf_get_lines(buf, 0, -1, false), row
  else
    local first = math.max(1, row - link.AROUND)
    lines = api.nvim_buf_get_lines(buf, first - 1, row + link.AROUND, false)
    at, head = row - first + 1, api.nvim_buf_get_lines(buf, 0, HEAD_LINES, false)
  end
  local ft = vim.bo[buf].filetype:match('^[^.]*')
  local found = link.find(lines, at, col, ft, head)
  if not found then
    return nil
  end
  found.first, found.last = found.first + row - at, found.last + row - at
  local paths, err = link.resolve(found, folders(buf))
  if not paths then
    return nil, err, found
  end
  for _, path in ipairs(paths) do
    if is_file(path) then
      local a, why = media.file(path)
      return a, why, found
    end
  end
  -- A word that only looks like a name is no reason to stop; a link is.
  if media.looks_like(found.target) or found.extensions then
    local name = require('gemma.util').no_nul(paths[1] or found.target)
    return nil, ('there is no file %s.'):format(media.short(name)), found
  end
end

---@param buf integer
---@return gemma.Media?
local function own_file(buf)
  local name = api.nvim_buf_get_name(buf)
  if name == '' or vim.bo[buf].buftype ~= '' or not is_file(name) then
    return nil
  end
  return (media.file(name))
end

-- ---- the list to pick from -----------------------------------------------------------------

--- Pictures in and below a folder, the newest first. Reads the folders without waiting for them.
---@param dir string
---@param done fun(list: { path: string, time: number }[])
local function pictures_below(dir, done)
  local found, open, seen = {}, 0, 0
  local function finish()
    table.sort(found, function(a, b)
      return a.time > b.time or (a.time == b.time and a.path < b.path)
    end)
    done(vim.list_slice(found, 1, NEAR_SHOWN))
  end
  local function close()
    open = open - 1
    if open == 0 then
      vim.schedule(finish)
    end
  end
  local function scan(path, depth)
    open = open + 1
    uv.fs_scandir(path, function(_, req)
      while req and seen < NEAR_FILES do
        local name, type = uv.fs_scandir_next(req)
        if not name then
          break
        end
        seen = seen + 1
        local full = path .. '/' .. name
        if type == 'directory' then
          if depth < NEAR_DEPTH and not name:match('^%.') and name ~= 'node_modules' then
            scan(full, depth + 1)
          end
        elseif media.looks_like_picture(name) then
          open = open + 1
          uv.fs_stat(full, function(_, stat)
            if stat and stat.type == 'file' then
              found[#found + 1] = { path = full, time = stat.mtime.sec + stat.mtime.nsec / 1e9 }
            end
            close()
          end)
        end
      end
      close()
    end)
  end
  scan(dir, 1)
end

---@param dir string
---@param question string?
---@param o gemma.attach.Source
---@param why string? why the clipboard had nothing
local function pick(dir, question, o, why)
  pictures_below(dir, function(list)
    if #list == 0 then
      return notify.warn(
        why or 'no picture here or in the clipboard. Name one: :Gemma image {path}.'
      )
    end
    local prefix = dir:gsub('/$', '') .. '/'
    vim.ui.select(list, {
      prompt = 'Ask about which picture?',
      kind = 'gemma.image',
      format_item = function(item)
        return vim.startswith(item.path, prefix) and item.path:sub(#prefix + 1) or item.path
      end,
    }, function(item)
      if item then
        local a, err = media.file(item.path)
        ask_or_tell(a, err, question, o)
      end
    end)
  end)
end

-- ---- commands ------------------------------------------------------------------------------

--- One line when pictures and sounds are out of the question here.
---@return boolean ready
local function ready()
  local why = require('gemma.engine').media_reason()
  if why then
    notify.warn(why)
  end
  return why == nil
end

--- :Gemma image
---@param text string as it was typed
function M.image(text)
  local path, question = M.parse(text, is_file)
  local o = here()
  if path then
    local a, err = named(path)
    if a and not ready() then
      return
    end
    return ask_or_tell(a, err, question, o)
  end
  local a, err, found = M.under_cursor(o.buf)
  if err then
    return notify.warn(err)
  elseif not ready() then
    return
  elseif a and found then
    o.first, o.last = found.first, found.last
    return M.ask(a, question, o)
  end
  a = own_file(o.buf)
  if a then
    return M.ask(a, question, o)
  end
  local dir = folders(o.buf)[1] -- now: the buffer may be gone when the clipboard answers
  require('gemma.grab').clipboard(function(pasted, why)
    if pasted then
      return M.ask(pasted, question, o)
    end
    pick(dir, question, o, why)
  end)
end

--- :Gemma shot
---@param text string
function M.shot(text)
  if ready() then
    local question, o = text:find('%S') and text or nil, here()
    require('gemma.grab').shot(function(a, err)
      ask_or_tell(a, err, question, o)
    end)
  end
end

--- The prompt of a question about a recording, up to and with the sound: what can be read before
--- the question is known to be over.
---@param sound gemma.Sound
---@return gemma.Part[]
local function until_sound(sound)
  return {
    { kind = 'system' },
    { kind = 'text', data = M.SYSTEM },
    { kind = 'user' },
    { kind = 'sound', sound = sound },
  }
end

local RECORD = 'Try :Gemma record voice, screen, stop or cancel.'

--- :Gemma record
---@param text string
function M.record(text)
  local record = require('gemma.record')
  local verb, rest = text:match('^(%S*)%s*(.-)%s*$')
  if verb == 'stop' or verb == 'cancel' then
    if not record[verb]() then
      notify.info('nothing is being recorded.')
    end
  elseif verb == 'voice' or verb == 'screen' then
    local question, o = rest ~= '' and rest or nil, here()
    local now = record.active()
    if now and now.tag == verb and not question then
      return record.stop() -- one key starts and ends it
    end
    record.start({
      kind = verb,
      tag = verb,
      session = require('gemma.sessions').ANSWERS,
      before = until_sound,
      on_done = function(a)
        M.ask(a, question, o)
      end,
    })
  elseif verb == '' and record.active() then
    record.stop()
  else
    notify.warn(verb == '' and RECORD or ('unknown argument %s. %s'):format(verb, RECORD))
  end
end

return M
