--- grab.lua: a picture from the clipboard or the screen, as a file of our own.
---
--- Runs the programs of tools.lua, never waits for them, and hands over a path in a private folder.
--- The caller deletes it, unless the user wants such files kept.

local child = require('gemma.child')
local tools = require('gemma.tools')

local M = {}

local uv = vim.uv

local CLIPBOARD_MS = 5000 -- the owner of a selection may never answer
local SHOT_MS = 120000 -- somebody draws a rectangle

--- Where a new file goes, and whether it stays. Created for this user only.
---@param stem string
---@param ext string
---@return string? path
---@return boolean|string keep or the error
function M.place(stem, ext)
  local keep = require('gemma.config').get().media.keep
  local name = ('%s-%s.%s'):format(stem, os.date('%Y%m%d-%H%M%S'), ext)
  if not keep then
    -- The folder of tempname() can be entered by nobody else, and Neovim removes it in the end.
    return vim.fn.tempname() .. '-' .. name, false
  end
  local dir = type(keep) == 'string' and require('gemma.util').path(keep)
    or vim.fs.joinpath(vim.fn.stdpath('data') --[[@as string]], 'gemma', 'media')
  local ok = pcall(vim.fn.mkdir, dir, 'p', tonumber('700', 8))
  if not ok then
    return nil, ('cannot make the folder %s. Check media.keep.'):format(dir)
  end
  local path, n = vim.fs.joinpath(dir, name), 1
  while uv.fs_lstat(path) do
    n = n + 1
    path = vim.fs.joinpath(dir, ('%s-%d.%s'):format(name:match('^(.*)%.'), n, ext))
  end
  return path, true
end

--- Writes what a program gave, readable by this user only; all of it, or there is no file.
---@param path string
---@param data string
---@return string? err
function M.write(path, data)
  local fd, err = uv.fs_open(path, 'w', tonumber('600', 8))
  if not fd then
    return err
  end
  local n, why = uv.fs_write(fd, data, 0)
  uv.fs_close(fd)
  if n ~= #data then
    uv.fs_unlink(path)
    -- The rest is not tried: at a limit on the size of files that would be a deadly signal.
    return why or ('only %d of %d bytes fit on the disk'):format(n, #data)
  end
end

---@param argv string[]
---@param ms integer
---@param limit integer bytes of output; more ends the program
---@param on_exit fun(out: string?, err: string?)
local function run(argv, ms, limit, on_exit)
  local ok, err = pcall(child.read, argv, { timeout = ms }, limit, function(done, out, too_much)
    if too_much then
      return on_exit(nil, 'it is too large')
    elseif done.code ~= 0 or done.signal ~= 0 then
      local line = vim.trim(done.stderr or ''):match('[^\n]*$')
      return on_exit(nil, line ~= '' and line or nil)
    end
    on_exit(out)
  end)
  if not ok then
    on_exit(nil, child.why(err))
  end
end

--- The picture of the clipboard. done(nil) when there is none; done(nil, why) when it cannot be had.
---@param done fun(a: gemma.Media?, err: string?)
function M.clipboard(done)
  local env = tools.env()
  local media = require('gemma.media')
  local tool = tools.usable(tools.clipboard, env)[1] ---@type gemma.tools.Clipboard?
  if not tool then
    return done(nil, tools.missing('clipboard', env))
  end
  local function read(type)
    run(tool.read(type), CLIPBOARD_MS, media.MAX_BYTES, function(data, err)
      if data and tool.base64 then
        local ok, bytes = pcall(vim.base64.decode, (data:gsub('%s', '')))
        data = ok and bytes or ''
      end
      if not data or data == '' then
        return done(nil, err)
      end
      local ext = (type or 'image/png'):match('%w+$')
      local path, keep = M.place('clipboard', ext)
      if not path then
        return done(nil, keep --[[@as string]])
      end
      local why = M.write(path, data)
      if why then
        return done(nil, ('cannot write %s: %s.'):format(path, why))
      end
      local found, bad = media.file(path, { temp = not keep, name = 'clipboard.' .. ext })
      if not found and not keep then
        uv.fs_unlink(path)
      end
      done(found, bad)
    end)
  end
  if not tool.types then
    return read(nil)
  end
  run(tool.types, CLIPBOARD_MS, 65536, function(out)
    local type = out and tools.clipboard_type(out)
    if not type then
      return done(nil) -- empty, or text
    end
    read(type)
  end)
end

--- A screenshot. done(nil) when the user gave up.
---@param done fun(a: gemma.Media?, err: string?)
function M.shot(done)
  local env = tools.env()
  local media = require('gemma.media')
  local found, why = tools.choose('shot', require('gemma.config').get().media.shot, env)
  local tool = found[1]
  if not tool then
    return done(nil, why)
  end
  local path, keep = M.place('shot', 'png')
  if not path then
    return done(nil, keep --[[@as string]])
  end
  run(tool.argv(env, path), SHOT_MS, media.MAX_BYTES, function(out, err)
    if out and tool.stdout then
      local ok, bytes = pcall(vim.base64.decode, (out:gsub('%s', '')))
      local data = ok and bytes ~= '' and bytes or out:sub(1, 4) == '\137PNG' and out
      local bad = data and M.write(path, data)
      if bad then
        return done(nil, ('cannot write %s: %s.'):format(path, bad))
      end
    end
    local stat = uv.fs_stat(path)
    if not stat or stat.size == 0 then
      uv.fs_unlink(path)
      if err then
        require('gemma.log').warn('%s: %s', tool.name, err)
      end
      -- Most programs end the same way whether the user gave up or there was nothing to take.
      return done(
        nil,
        out and ('%s took no picture.'):format(tool.name)
          or err and ('%s: %s.'):format(tool.name, (err:gsub('%.$', '')))
          or nil
      )
    end
    uv.fs_chmod(path, tonumber('600', 8))
    local a, bad = media.file(path, { temp = not keep, name = 'screenshot.png' })
    if not a and not keep then
      uv.fs_unlink(path)
    end
    done(a, bad)
  end)
end

return M
